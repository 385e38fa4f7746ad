# SPDX-License-Identifier: MIT
"""Process ids that come round: a namespace of its own with few of them, and bystanders that take the very id which somebody has on record."""
import atexit
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import traceback

from lib import boxes, processes
from lib.services import ROOT
from lib.wait import wait_for

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2
AGAIN = 75
# The kernel gives out none below 300 again, so these are 180.
PID_MAX = 480


@functools.cache
def program():
    folder = tempfile.mkdtemp(prefix="zr-test-ids.")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "bystander")
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", os.path.join(ROOT, "test/fake/bystander.c"), "-o", path], check=True)
    return path


def possible():
    """Before Linux 6.14 the largest id is the host's, whatever the namespace."""
    return os.geteuid() == 0 and boxes.kernel_is(6, 14)


def _must(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _reap_until(pid):
    while os.waitpid(-1, 0)[0] != pid:
        pass


def _first(body):
    """Process 1: makes the place what it should be and is the parent of what has lost its own."""
    _must(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    _must(libc.mount(b"proc", b"/proc", b"proc", 0, None))
    with open("/proc/sys/kernel/pid_max", "w") as f:
        f.write(str(PID_MAX))
    pid = os.fork()
    if pid:
        _reap_until(pid)
        return
    subprocess.run([program(), "--wrap"], check=True, timeout=60)
    body()


def _told(report, run, *args):
    """Runs it as all that this process does; what goes wrong is for the report."""
    try:
        run(*args)
    except BaseException:
        os.write(report, traceback.format_exc().encode()[-60000:])
    os._exit(0)


def _outer(body, report):
    _must(libc.unshare(CLONE_NEWPID | CLONE_NEWNS))
    pid = os.fork()
    if pid == 0:
        _told(report, _first, body)
    os.waitpid(pid, 0)


def in_own_world(body):
    """body() in PID and mount namespaces of its own, where the ids have come round once; all that it leaves is killed with them."""
    program()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _told(writer, _outer, body, writer)
    os.close(writer)
    with open(reader, errors="replace") as f:
        report = f.read()
    os.waitpid(pid, 0)
    assert not report, report


def hide(mount_point):
    """What is mounted there is not, in this world."""
    _must(libc.umount2(os.fsencode(mount_point), MNT_DETACH))


class Bystander:
    """A process of our user that has an id which was another's, and the same name; it writes down every signal that it gets."""

    def __init__(self, pid, name, folder):
        """The id must be free."""
        self.pid, self.name = pid, name
        self.path = os.path.join(str(folder), f"signals-of-{pid}")
        argv = [program(), str(pid), name, self.path]
        while (status := subprocess.run(argv, timeout=60).returncode) == AGAIN:
            pass
        assert status == 0, status
        self.since = processes.since(pid)

    def check(self):
        """It lives, is not stopped, and was told nothing."""
        last = f"{int(signal.SIGRTMAX)} of {os.getpid()}\n"

        def heard():
            assert processes.since(self.pid) == self.since, f"{self.pid} {self.name} has been killed"
            assert processes.state(self.pid) in "SR", f"{self.pid} {self.name} is in state {processes.state(self.pid)}"
            with open(self.path) as f:
                seen = f.read()
            return seen.endswith(last) and [seen.replace(last, "")]
        # Of what is pending the largest number comes last.
        os.kill(self.pid, signal.SIGRTMAX)
        seen, = wait_for(heard, 60, f"{self.pid} {self.name} to hear us")
        assert not seen, f"{self.pid} {self.name} got the signals {seen}"
