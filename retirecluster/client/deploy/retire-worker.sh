#!$shell
# $mark
# Termux:Boot runs this when the device has started.
termux-wake-lock
exec $command
