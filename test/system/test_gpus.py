# SPDX-License-Identifier: MIT
"""GPUs: the probe, locks, hand-out. All on fake GPUs (test/fake/libcuda): nothing here says anything about a real card."""
import json
import os
import subprocess
import time

import pytest

from lib.fakegpu import FakeGpus, uuid
from lib.services import BUILD


class Host:
    """A host with fake GPUs and a zr.conf, without broker or database."""

    def __init__(self, base):
        self.base = str(base)
        self.fake = FakeGpus(os.path.join(self.base, "cuda"))
        self.locks = os.path.join(self.base, "locks")
        os.mkdir(self.locks, 0o750)
        self.conf = os.path.join(self.base, "zr.conf")
        self.settings(cuda_library=self.fake.library, gpu_lock_dir=self.locks, state_dir=self.base + "/state",
                      bin_dir=self.base + "/bin")
        self.env = {"PATH": os.environ["PATH"], "ZR_CONF": self.conf}

    def settings(self, **keys):
        with open(self.conf, "a") as f:
            f.writelines(f'{k} = "{v}"\n' for k, v in keys.items())

    def argv(self, *args):
        return [os.path.join(BUILD, "zr"), *map(str, args)]

    def zr(self, *args, check=0, timeout=60, **kw):
        r = subprocess.run(self.argv(*args), env=self.env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **kw)
        assert check is None or r.returncode == check, (r.returncode, r.stdout, r.stderr)
        return r

    def gpus(self):
        return json.loads(self.zr("gpus", "--json").stdout)


@pytest.fixture
def host(tmp_path):
    os.chmod(tmp_path, 0o755)
    return Host(tmp_path)


# --- the probe ---

def test_probe_names_what_is_there(host):
    host.fake.scenario([
        {"uuid": uuid(1), "minor": 3, "used": 512, "procs": 2},
        {"uuid": uuid(2), "name": "L4", "cc": "8.9", "total": 23034},
        {"uuid": uuid(3, "MIG"), "parent": uuid(9), "name": "A100_MIG", "cc": "8.0", "total": 20096},
        {"uuid": uuid(4), "name": "later", "cc": "15.3"}])
    a, b, c, d = host.gpus()
    assert a == {**a, "index": 0, "uuid": uuid(1), "name": "H100 PCIe", "architecture": "Hopper", "compute_capability": "9.0",
                 "memory_bytes": 80 << 30, "node": 3, "mig": False, "used_bytes": 512 << 20, "processes": 2, "double": True}
    assert (b["architecture"], b["name"], b["memory_bytes"]) == ("Ada", "L4", 23034 << 20)
    assert (c["uuid"], c["mig"], c["parent"], c["architecture"]) == (uuid(3, "MIG"), True, uuid(9), "Ampere")
    assert d["architecture"] == "sm_153"
    r = host.zr("gpus")
    assert "Hopper" in r.stdout and "80.0 GiB" in r.stdout and "these are fake GPUs" in r.stderr


@pytest.mark.parametrize("code, words, status", [
    (34, "is the CUDA toolkit's stub (", 0), (100, "the driver sees no GPU (cuInit: 100, NO_DEVICE)", 0),
    (803, "driver and library differ: reboot", 1), (999, "(cuInit: 999, UNKNOWN)", 1), (777, "the driver fails (cuInit: 777)", 1)])
def test_probe_says_why_there_is_none(host, code, words, status):
    host.fake.scenario([1], init_error=code)
    r = host.zr("gpus", check=status)
    assert words in r.stderr and r.stdout == ""
    if code == 34:
        assert "no NVIDIA driver is installed" in r.stderr and host.fake.library in r.stderr
    r = host.zr("doctor", "--json", check=1)
    line = [d for d in json.loads(r.stdout) if d["check"] == "gpu"][0]
    assert words in line["text"] and line["status"] == ("fail" if status else "ok")


def test_probe_without_a_driver(host):
    host.env["LD_LIBRARY_PATH"] = "/nonexistent"
    with open(host.conf, "w") as f:
        f.write("")
    r = host.zr("gpus", check=None)
    if r.stdout:
        pytest.skip("this host has a driver")
    assert r.returncode == 0 and "no NVIDIA driver: libcuda.so.1: cannot open shared object file" in r.stderr


def test_library_that_others_can_write_is_not_loaded(host):
    host.fake.scenario([1], log=host.base + "/calls")
    os.chmod(host.fake.library, 0o777)
    assert "is not a file that only its owner may write" in host.zr("gpus", check=1).stderr
    os.chmod(host.fake.library, 0o755)
    os.chmod(host.fake.dir, 0o777)
    assert "may be written by others than its owner" in host.zr("gpus", check=1).stderr
    assert not os.path.exists(host.base + "/calls")
    os.chmod(host.fake.dir, 0o755)
    with open(host.fake.library, "w") as f:
        f.write("no library")
    assert "no NVIDIA driver: " in host.zr("gpus").stderr


def test_driver_that_hangs_is_left_after_15_seconds(host):
    host.fake.scenario([1], hang="init", log=host.base + "/calls")
    begin = time.monotonic()
    r = host.zr("gpus", check=1)
    assert "the driver has not answered in 15 s" in r.stderr and 14 < time.monotonic() - begin < 30
    with open(host.base + "/calls") as f:
        pid = int(f.read().split()[0])
    assert not os.path.exists(f"/proc/{pid}")
