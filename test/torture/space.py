# SPDX-License-Identifier: MIT
"""A run has namespaces of its own: of processes, so that all that it started ends with it, however it ends; of the network, so that
hosts can be cut off and no port is anybody else's; of mounts and of System V memory, so that nothing of these is left behind."""
import ctypes
import os
import signal
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1


def _wait_for(pid, cleanup):
    """The parent: hands on what shall end the run, and ends as it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells both
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(pid, signal.SIGTERM))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    cleanup()
    sys.exit(status if status >= 0 else 128 - status)


def enter(cleanup):
    """Returns in a child, process 1 of the new namespaces; `cleanup` is called in its parent when it has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET):
        sys.exit(f"torture: needs namespaces of its own: {os.strerror(ctypes.get_errno())}; run it as root")
    pid = os.fork()
    if pid:
        _wait_for(pid, cleanup)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for argv in (["mount", "--make-rprivate", "/"], ["mount", "-t", "proc", "proc", "/proc"], ["ip", "link", "set", "lo", "up"]):
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
