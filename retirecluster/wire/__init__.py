"""What stands on the line between the main and its peers.

=========  =================================================================================
messages   the catalogue: every message type, who may send it, and its fields
codec      bytes to checked JSON objects and back, strictly
session    what one connection may say, and when: pure, no sockets
lines      the one module that touches Twisted: lines of JSON over a transport
=========  =================================================================================
"""
