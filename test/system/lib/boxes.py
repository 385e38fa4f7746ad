# SPDX-License-Identifier: MIT
"""Boxes without a worker: a box folder, its spec.json, and zr-box run on it."""
import array
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import uuid

from .services import BUILD
from .wait import wait_for

KEEPER = os.path.join(BUILD, "zr-box")
# The last word of a keeper that has nothing to clean, or of one that had.
READY = (b'"ready":true', b'"t":"ready"')
# How much slower this machine is than others: user-mode Linux (scripts/uml) with its system calls.
with open("/proc/cpuinfo") as _cpuinfo:
    SLOW = 10 if "User Mode Linux" in _cpuinfo.read() else 1
# For times in which a script must have come to something, on such a machine when its host is busy.
LONGER = 4 if SLOW > 1 else 1


def descendants(pid):
    """They may be gone by the time that this returns."""
    found = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            for child in f.read().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def _mount(kind, controller=None):
    with open("/proc/self/mountinfo") as f:
        for line in f:
            head, tail = line.split(" - ")
            if tail.split()[0] == kind and (controller is None or controller in tail.split()[2].split(",")):
                return head.split()[4]
    return None


def _own(controller=None):
    with open("/proc/self/cgroup") as f:
        for line in f:
            _, names, path = line.rstrip("\n").split(":", 2)
            if names == "" if controller is None else controller in names.split(","):
                return path
    return None


def _group(kind, controller=None):
    """Our own directory in a hierarchy, if we can make others below it."""
    mount, own = _mount(kind, controller), _own(controller)
    if not mount or own is None:
        return None
    path = mount + own.rstrip("/")
    try:
        probe = tempfile.mkdtemp(prefix="zr-test-", dir=path)
        os.rmdir(probe)
    except OSError:
        return None
    return path


def groups():
    """The `cgroup` member of a spec, as the worker's probe would find it on this host."""
    v2 = _group("cgroup2")
    if not v2:
        return {}
    found = {"v2": v2}
    with open(os.path.join(v2, "cgroup.subtree_control")) as f:
        controllers = f.read().split()
    for name in ("memory", "pids"):
        if name in controllers:
            found["v2_" + name] = True
        elif (path := _group("cgroup", name)):
            found["v1_" + name] = path
    return found


def pass_controllers(groups_):
    """Boxes below this v2 group have the controllers that it has itself; nothing may run in it."""
    for name in ("memory", "pids"):
        if groups_.get("v2_" + name):
            with open(os.path.join(groups_["v2"], "cgroup.subtree_control"), "w") as f:
                f.write("+" + name)


def kernel_is(*least):
    return tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", os.uname().release).groups()) >= least


def maps_owners(path):
    """Can the file system show its files as another user's? In memory it can from Linux 6.3 on, on a disk before that."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()
    return kind != "tmpfs" or kernel_is(6, 3)


def more_groups():
    """What jobs get by wish alone: shares of processors, some processors, some devices."""
    found = {"v1_" + name: path for name in ("cpu", "cpuset", "devices") if (path := _group("cgroup", name))}
    v2 = _group("cgroup2")
    if v2:
        with open(os.path.join(v2, "cgroup.subtree_control")) as f:
            found.update({"v2_" + name: True for name in ("cpu", "cpuset") if name in f.read().split()})
    return found


def remove_group(path):
    """With all below it; false while something in them is alive."""
    for top, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(top)
        except OSError:
            return False
    return True


def now():
    """Microseconds on the clock of leases."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def not_renewed(span):
    return f"the lease of {span} was not renewed: stopped, so that it does not run twice"


def alive(pid):
    """Is it there, and not only as a zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# What does not end by itself, some of it against all signals that can be ignored.
LONG_RUNS = {
    "plain": "sleep 60",
    "ignores": "trap '' TERM; while :; do sleep 0.1; done",
    "stopped": "trap '' TERM INT HUP; (trap '' TERM; sleep 60) & kill -STOP $$; sleep 60",
    "group-stopped": "kill -STOP 0",
}


def check_wall_limit(box, script):
    """It ends by its limit, long before it would end by itself."""
    begin = time.monotonic()
    r = box.run(script, limits={"wall_usec": 400000})
    assert (r["reason"], r["detail"]) == ("wall-limit", "run took longer than 400ms"), r
    assert 0.4 <= time.monotonic() - begin < 20 and 400000 <= r["usage"]["wall_usec"] < 20000000, r


class Box:
    def __init__(self, base, groups_):
        self.base = str(base)
        self.groups = groups_
        self.id = str(uuid.uuid4())
        self.dir = os.path.join(self.base, "spool/boxes", self.id)
        self.evaluator = os.path.join(self.base, "ev")
        self.submission = os.path.join(self.base, "submission")
        self.sealed = os.path.join(self.base, "sealed", self.id)
        self.process = None
        for d in (self.dir, self.evaluator, self.submission):
            os.makedirs(d, exist_ok=True)

    def script(self, text, name="run", mode=0o755):
        path = os.path.join(self.evaluator, f"{name}-{self.id[-6:]}")
        with open(path, "w") as f:
            f.write(text if text.startswith("#!") else "#!/bin/bash\n" + text)
        os.chmod(path, mode)
        return path

    def _program(self, text, name):
        """The path of a program as it is, or a script of this text."""
        return text if text.startswith("/") and " " not in text else self.script(text, name)

    def write_spec(self, run, prepare=None, score=None, limits=None, **more):
        phases = [{"name": name, "argv": [self._program(text, name), self.submission]}
                  for name, text in (("prepare", prepare), ("run", run), ("score", score)) if text is not None]
        spec = {"zr_box": 1, "evaluation": "42", "attempt": 1, "attempt_id": self.id, "evaluator": "ev",
                "submission": self.submission, "evaluator_dir": self.evaluator,
                "sealed_dir": os.path.join(self.base, "sealed"), "log_cap": 65536, "term_grace_usec": 300000,
                "scores_file": "scores.json", "phases": phases, "limits": {"wall_usec": 20000000, **(limits or {})},
                "cgroup": self.groups, **more}
        with open(os.path.join(self.dir, "spec.json"), "w") as f:
            json.dump(spec, f)

    def start(self, run, env=None, wrapper=(), **kw):
        self.write_spec(run, **kw)
        self.process = subprocess.Popen([*wrapper, KEEPER, self.dir], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env=env or {}, cwd="/")
        return self

    def wait(self, timeout=30):
        self.process.wait(timeout)
        return self.result()

    def run(self, run, timeout=30, **kw):
        return self.start(run, **kw).wait(timeout)

    def stop(self):
        """What a keeper that is killed leaves running ends with it here."""
        if not self.process or self.process.poll() is not None:
            return
        below = []
        for pid in descendants(self.process.pid):
            try:
                below.append(os.pidfd_open(pid))
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        for fd in below:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(fd)

    def journal(self):
        try:
            with open(os.path.join(self.dir, "journal")) as f:
                return [json.loads(line) for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def result(self):
        done = [r for r in self.journal() if r["t"] == "done"]
        assert len(done) == 1, self.journal()
        return done[0]["result"]

    def has(self, name):
        return os.path.lexists(os.path.join(self.dir, name))

    def read(self, name):
        with open(os.path.join(self.dir, name), "rb") as f:
            return f.read()

    def file(self, name):
        """A small file that the job makes; waits for it."""
        path = os.path.join(self.base, name)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with open(path) as f:
                    if (text := f.read()).endswith("\n"):
                        return text.strip()
            except FileNotFoundError:
                pass
            time.sleep(0.005)
        raise AssertionError(f"{name} did not appear")

    def pid(self, name):
        return int(self.file(name))

    def connect(self, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            s = socket.socket(socket.AF_UNIX)
            here = os.open(self.dir, os.O_PATH)
            try:
                s.connect(f"/proc/self/fd/{here}/control")
                s.settimeout(timeout)
                return s
            except OSError:
                s.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            finally:
                os.close(here)

    def say(self, *more, **message):
        """On the control socket, as an adopter would: one message, or several that the keeper reads at once."""
        with self.connect() as s:
            s.sendall(b"".join(json.dumps(m).encode() + b"\n" for m in [*more, message]))

    def stop_keeper(self):
        """It is stopped when this returns."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go(self):
        """Lets a job go on that reads a line from the fifo `go` of its submission; not if there is none any more."""
        def told():
            try:
                fd = os.open(os.path.join(self.submission, "go"), os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return not alive(self.process.pid)
            os.write(fd, b"\n")
            os.close(fd)
            return True
        wait_for(told, 10, "the job to read")

    def wait_journal(self, kind):
        """Until it has a record of this kind."""
        wait_for(lambda: any(r["t"] == kind for r in self.journal()), 10, f"'{kind}' in the journal", interval=0.005)

    def remove_groups(self):
        """What the keeper would do that was killed: false while something in them is alive."""
        return all(remove_group(d) for d in self.cgroup_dirs())

    def cgroup_dirs(self):
        return [p for key, p in ((k, os.path.join(v, "zr-" + self.id)) for k, v in self.groups.items() if isinstance(v, str))
                if os.path.isdir(p)]


class Keeper:
    """One that takes job after job, as a worker has them."""

    def __init__(self):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(60)
        self.process = subprocess.Popen([KEEPER, "--serve"], stdin=theirs, env={})
        theirs.close()

    def run(self, box):
        """Seconds for one job."""
        folder = os.open(box.dir, os.O_RDONLY | os.O_DIRECTORY)
        journal = os.open("journal", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600, dir_fd=folder)
        fcntl.flock(journal, fcntl.LOCK_EX)
        start = time.perf_counter()
        self.sock.sendmsg([b'{"t":"job"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [folder, journal]))])
        os.close(folder)
        os.close(journal)
        while True:
            message = self.sock.recv(65536)
            assert message, "the keeper has ended"
            if any(word in message for word in READY):
                break
        return time.perf_counter() - start

    def close(self):
        self.sock.close()
        self.process.wait()
