# SPDX-License-Identifier: MIT
"""What a host must have for some tests. A missing gate skips, unless ZR_TEST_MUST names it: then it fails."""
import os
import shutil
import subprocess


def _runs(*argv):
    return shutil.which(argv[0]) is not None and subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20).returncode == 0


def _cgroup():
    """A cgroup v2 folder that we may make children in, with the controllers that limits need."""
    try:
        with open("/proc/self/cgroup") as f:
            own = next(line.split(":", 2)[2].strip() for line in f if line.startswith("0::"))
        folder = "/sys/fs/cgroup" + own.rstrip("/")
        with open(folder + "/cgroup.controllers") as f:
            controllers = f.read().split()
    except (OSError, StopIteration):
        return False
    return {"memory", "pids"} <= set(controllers) and os.access(folder, os.W_OK)


def _cgroup1():
    """Hierarchies of version 1."""
    with open("/proc/self/mountinfo") as f:
        return any(" - cgroup " in line for line in f)


GATES = {
    "root": lambda: os.geteuid() == 0,
    "gpu": lambda: os.path.exists("/dev/nvidia0") and _runs("nvidia-smi", "-L"),
    "nvcc": lambda: shutil.which("nvcc") is not None,
    "jupyter": lambda: _runs("/usr/bin/python3", "-c", "import nbconvert, ipykernel"),
    "userns": lambda: _runs("unshare", "-Ur", "true"),
    "cgroup": _cgroup,
    "cgroup1": _cgroup1,
    "fuse": lambda: os.access("/dev/fuse", os.R_OK | os.W_OK),
    "processors": lambda: {0, 1} <= os.sched_getaffinity(0),
}
_known = {}


def is_open(gate):
    if gate not in _known:
        _known[gate] = bool(GATES[gate]())
    return _known[gate]


def must(gate):
    return gate in os.environ.get("ZR_TEST_MUST", "").split()
