# SPDX-License-Identifier: MIT
"""The processes that work in a folder, found as a stranger would: by current folder and environment."""
import os
import signal

from lib.wait import wait_for


def _read(path):
    with open(path, "rb") as f:
        return f.read()


def _stat(pid):
    """(state, ppid, start time) or None."""
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19])


def _belongs(pid, folder):
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd")
        if cwd == folder or cwd.startswith(folder + "/"):
            return True
        mark = os.fsencode(folder)
        return any(v.partition(b"=")[2] == mark or mark + b"/" in v
                   for v in _read(f"/proc/{pid}/environ").split(b"\0"))
    except OSError:
        return False


def working_in(folder):
    """{pid: command line} of living processes that work in folder or have its path in their environment; not ourselves."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid() or not _belongs(name, folder):
            continue
        stat = _stat(name)
        if stat and stat[0] not in "ZX":
            line = command(name)
            if line is not None:
                found[int(name)] = line
    return found


def end_all(folder):
    """SIGKILL to all of them until none is left."""
    def none_left():
        left = working_in(folder)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not left
    wait_for(none_left, 20, f"the processes in {folder} to end")


def alive(pid):
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def state(pid):
    """The letter of proc(5), or None if it has gone."""
    stat = _stat(pid)
    return stat and stat[0]


def since(pid):
    """When it began, which no other process of this id has in common with it; None if it has gone."""
    stat = _stat(pid)
    return stat and stat[2]


def parent(pid):
    return _stat(pid)[1]


def children(pid):
    """The living children of a process."""
    return [int(n) for n in os.listdir("/proc") if n.isdigit() and (s := _stat(n)) and s[1] == pid and s[0] not in "ZX"]


def all_ids():
    return [int(n) for n in os.listdir("/proc") if n.isdigit()]


def command(pid):
    """Its command line, or None if it has gone."""
    try:
        return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None


def comm(pid):
    """Its short name, or None if it has gone."""
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return None
