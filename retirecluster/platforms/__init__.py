"""What differs by operating system: one module each, one small interface, chosen once.

================  =====================================================
base              the interface, and what is the same everywhere
linux             /proc and /sys
raspberry_pi      linux, plus the firmware's throttling flags
android           linux as Termux sees it: much is closed
macos             what the standard library gives
windows           for the announcement only: tasks cannot run there yet
choose            finds out where this is
psutil_probes     what psutil tells, where it is installed
interfaces        network interfaces: their kinds
sessions          whether somebody uses the device
arm               names of ARM cores
programs          programs that are asked, with a deadline
================  =====================================================
"""
