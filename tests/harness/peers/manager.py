"""A service manager in small: it holds a node's sockets, starts the node as somebody else, and starts it again when its
main process ends, as systemd does with a .socket and `Restart=always`.

usage: manager.py PORT UDP_SOCKETS UID NOTIFY COMMAND...
It listens on 127.0.0.1:PORT over TCP and on so many UDP sockets that share the port, and hands them over by LISTEN_FDS.
UID 0: the node is whoever this is. NOTIFY is the path of the notify socket; only the main process is heard there. What
happens is printed, a line each. It ends, and everything it started, on SIGTERM.
"""
import ctypes
import os
import select
import signal
import socket
import struct
import sys

PORT, UDP_SOCKETS, UID, NOTIFY, *COMMAND = sys.argv[1:]
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FIRST = 3  # SD_LISTEN_FDS_START


def say(line):
    """One write: the node's own lines go the same way."""
    os.write(1, f"{line}\n".encode())


def held():
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    tcp.bind(("127.0.0.1", int(PORT)))
    tcp.listen(4096)
    udp = []
    for _ in range(int(UDP_SOCKETS)):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", int(PORT)))
        udp.append(one)
    return udp + [tcp]


def start(sockets):
    """Starts the command in a group of its own; its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        aside = [os.dup(one.fileno()) for one in sockets]
        aside = [os.dup2(fd, 200 + at) for at, fd in enumerate(aside)]
        for at, fd in enumerate(aside):
            os.dup2(fd, FIRST + at)  # it is inheritable
        os.closerange(FIRST + len(sockets), 1024)
        if int(UID):
            os.setgroups([])
            os.setgid(int(UID))
            os.setuid(int(UID))
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        environment = dict(os.environ, LISTEN_FDS=str(len(sockets)), LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=NOTIFY)
        os.execvpe(COMMAND[0], COMMAND, environment)
    except BaseException as error:
        say(f"not started: {error}")
    os._exit(127)


def kill(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def reap():
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def main():
    # What its children leave behind is its own.
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
    sockets = held()
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(NOTIFY)
    os.chmod(NOTIFY, 0o666)
    notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    group = start(sockets)
    leader = group

    def end(*_):
        kill(group)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    say(f"main {leader} uid {UID}")
    watched = os.pidfd_open(leader)
    while True:
        ready, _, _ = select.select([notify, watched], [], [])
        if notify in ready:
            text, rights, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(12))
            sender = next((struct.unpack("3i", data)[0] for _, kind, data in rights if kind == socket.SCM_CREDENTIALS), 0)
            if sender != leader:
                say(f"not heard: {sender}, which is not the main process")
                continue
            for line in text.decode().splitlines():
                say(f"told {line}")
                if line.startswith("MAINPID="):
                    leader = int(line.removeprefix("MAINPID="))
                    os.close(watched)
                    watched = os.pidfd_open(leader)
            continue
        # All that is left of the service ends with its main process.
        kill(group)
        say(f"ended {leader}")
        reap()
        os.close(watched)
        group = leader = start(sockets)
        watched = os.pidfd_open(leader)
        say(f"main {leader} uid {UID}")


main()
