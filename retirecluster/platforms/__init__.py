"""What differs by operating system: one module each, one small interface, chosen once.

================  =====================================================
base              the interface, and what is the same everywhere
linux             /proc and /sys
raspberry_pi      linux, plus the firmware's throttling flags
android           linux as Termux sees it: much is closed
macos             what the standard library gives
windows           for the announcement only: tasks cannot run there yet
choose            finds out where this is
================  =====================================================
"""
