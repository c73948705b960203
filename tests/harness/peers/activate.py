"""Starts a program as systemd's socket activation does: its sockets are there before it is.

usage: activate.py PORT PROGRAM ARGUMENT...
A TCP and a UDP socket on 127.0.0.1:PORT become descriptors 3 and 4.
"""
import os
import socket
import sys

port, program = int(sys.argv[1]), sys.argv[2:]
kinds = [socket.SOCK_STREAM, socket.SOCK_DGRAM]
for descriptor, kind in enumerate(kinds, start=3):
    held = socket.socket(socket.AF_INET, kind)
    held.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        held.listen(128)
    # Above where they shall stand, so that none is overwritten before its turn.
    above = os.dup2(held.detach(), 60 + descriptor)
    os.dup2(above, descriptor, inheritable=True)
    os.close(above)
os.environ["LISTEN_FDS"] = str(len(kinds))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(program[0], program)
