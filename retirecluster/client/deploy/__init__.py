"""Templates of what starts the daemons: systemd units, Termux's boot script. `deploy/` is made from them, too."""
