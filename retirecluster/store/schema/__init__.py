"""The database's schema: `NNN_name.sql`, applied in order of their numbers, each exactly once."""
