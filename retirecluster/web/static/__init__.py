"""Files that browsers load, as they are served. No code lives here."""
