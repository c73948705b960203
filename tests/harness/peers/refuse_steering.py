"""Runs the program that follows under a filter of system calls that refuses to attach a classic BPF program to a group of
UDP sockets, as sandboxes do. The filter is the kernel's own, and is inherited by whatever that program starts."""

import ctypes
import os
import platform
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}[platform.machine()]
SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF = 1, 51
EPERM = 1
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | EPERM
# In `struct seccomp_data`: the number of the call, and the low words of its second and third argument.
NUMBER, LEVEL, OPTION = 0, 24, 32

PROGRAM = [
    (LOAD, 0, 0, NUMBER),
    (EQUAL, 0, 5, SETSOCKOPT),
    (LOAD, 0, 0, LEVEL),
    (EQUAL, 0, 3, SOL_SOCKET),
    (LOAD, 0, 0, OPTION),
    (EQUAL, 0, 1, SO_ATTACH_REUSEPORT_CBPF),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def refuse():
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *it) for it in PROGRAM))
    whole = Filter(len(PROGRAM), ctypes.addressof(instructions))
    for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0)]:
        if libc.prctl(*call) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")


refuse()
os.execv(sys.argv[1], sys.argv[1:])
