# SPDX-License-Identifier: MIT
"""The processes that this run has started, and signals to them. The run is process 1 of its namespace: all that it started, however
far it has gone, is below it, and nothing else is ever found or signalled."""
import os
import signal

def _text(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


HERE = None  # the process namespace of the run


def parent(process):
    """None: it is not below this one any more."""
    s = _stat(process.ppid)
    return Process(process.ppid, s[1], s[2]) if s and process.ppid not in (0, os.getpid()) else None


class Process:
    def __init__(self, pid, ppid, start):
        self.pid, self.ppid, self.start = pid, ppid, start
        self.exe = os.path.basename(_link(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
        self.cwd = _link(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
        self.argv = _text(f"/proc/{pid}/cmdline").decode(errors="replace").split("\0")[:-1]
        # In a process namespace of its own, as what runs in a sandbox is; who has just ended is nowhere.
        self.elsewhere = _link(f"/proc/{pid}/ns/pid") not in (HERE, "")
        status = _text(f"/proc/{pid}/status").partition(b"\nUid:")[2].split(maxsplit=1)
        self.uid = int(status[0]) if status else 0
        space = _link(f"/proc/{pid}/ns/net").removesuffix("]").partition("[")[2]
        self.network = int(space) if space else 0
        env = (v.partition(b"=") for v in _text(f"/proc/{pid}/environ").split(b"\0"))
        self.env = {k.decode(errors="replace"): v.decode(errors="replace") for k, _, v in env}

    def __str__(self):
        return f"{self.pid} {self.exe} ({' '.join(self.argv)[:80]}) in {self.cwd}"

    def signal(self, number):
        """False if it has gone; the number may be another's by now."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            stat = _stat(self.pid)
            if not stat or stat[2] != self.start:
                return False
            signal.pidfd_send_signal(fd, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)


def _stat(pid):
    """(state, ppid, start time) or None"""
    fields = _text(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1]), int(fields[19])) if fields else None


def ours():
    """All living processes below this one."""
    global HERE
    HERE = _link("/proc/self/ns/pid")
    stats = {int(n): s for n in os.listdir("/proc") if n.isdigit() and (s := _stat(n))}
    children = {}
    for pid, (_, ppid, _) in stats.items():
        children.setdefault(ppid, []).append(pid)
    found, queue = [], list(children.get(os.getpid(), []))
    while queue:
        pid = queue.pop()
        queue += children.get(pid, [])
        if stats[pid][0] not in "ZX":
            found.append(Process(pid, stats[pid][1], stats[pid][2]))
    return found


def mounts():
    with open("/proc/self/mountinfo") as f:
        return {line.split()[4] for line in f}


def orphans_ended(mine):
    """Reaps what was left to us and has ended; `mine` are the pids that somebody here waits for."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in mine and (s := _stat(name)) and s[1] == os.getpid() and s[0] == "Z":
            yield int(name)
