# SPDX-License-Identifier: MIT
"""GPUs: the probe, locks, hand-out. All on fake GPUs (test/fake/libcuda): nothing here says anything about a real card."""
import fcntl
import json
import os
import subprocess
import time

import pytest

from lib.fakegpu import FakeGpus, uuid
from lib.services import BUILD
from lib.wait import wait_for


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
        {"uuid": uuid(4), "name": "later", "cc": "15.3"}])
    a, b, d = host.gpus()
    assert a == {**a, "index": 0, "uuid": uuid(1), "name": "H100 PCIe", "architecture": "Hopper", "compute_capability": "9.0",
                 "memory_bytes": 80 << 30, "node": 3, "mig": False, "used_bytes": 512 << 20, "processes": 2, "double": True}
    assert (b["architecture"], b["name"], b["memory_bytes"]) == ("Ada", "L4", 23034 << 20)
    assert d["architecture"] == "sm_153"
    r = host.zr("gpus")
    assert "Hopper" in r.stdout and "80.0 GiB" in r.stdout and "these are fake GPUs" in r.stderr


PARTS = [{"uuid": uuid(1), "minor": 3}] + [
    {"uuid": uuid(i, "MIG"), "parent": uuid(9), "name": "A100_MIG_1g.20gb", "cc": "8.0", "total": 20096, "used": i, "procs": i - 6,
     "minor": 0, "pci": "0000:09:00.0", "gi": i, "ci": 0} for i in (7, 8)]


def test_parts_of_a_gpu(host):
    """CUDA shows a process one of them and no whole GPU beside it; they are all there nevertheless."""
    host.fake.scenario(PARTS)
    whole, a, b = host.gpus()
    assert (whole["uuid"], whole["mig"], whole["node"], whole["architecture"]) == (uuid(1), False, 3, "Hopper")
    assert a == {**a, "index": 1, "uuid": uuid(7, "MIG"), "mig": True, "parent": uuid(9), "name": "A100 MIG 1g.20gb", "architecture": "Ampere",
                 "memory_bytes": 20096 << 20, "node": 0, "used_bytes": 7 << 20, "processes": 1}
    assert (b["uuid"], b["parent"], b["index"], b["used_bytes"]) == (uuid(8, "MIG"), uuid(9), 2, 8 << 20)


@pytest.mark.parametrize("visible, want", [
    (uuid(8, "MIG"), [8]), (f"{uuid(1)},MIG-00000007", [1, 7]), ("0", [1]), ("2", [8]), ("GPU-ffff", [])])
def test_parts_that_were_handed_over_are_all_that_is_taken(host, visible, want):
    host.fake.scenario(PARTS)
    host.env["CUDA_VISIBLE_DEVICES"] = visible
    got = host.zr("gpus", "--json", check=None).stdout
    assert [g["uuid"] for g in json.loads(got or "[]")] == [uuid(i, "GPU" if i == 1 else "MIG") for i in want]


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.isdir("/proc/driver"), reason="needs root and /proc/driver")
@pytest.mark.parametrize("minors, caps", [
    ("gpu0/gi7/access 21\ngpu0/gi7/ci0/access 22\ngpu0/gi77/access 5\n", [21, 22]), ("gpu0/gi7/access 21\n", None),
    ("gpu0/gi7/access x\ngpu0/gi7/ci0/access 22", None), ("", None), (None, None)])
def test_the_devices_of_a_part(host, minors, caps):
    host.fake.scenario(PARTS)
    say = f"mkdir /proc/driver/nvidia-caps && printf '{minors}' >/proc/driver/nvidia-caps/mig-minors && " if minors is not None else ""
    r = subprocess.run(["unshare", "-m", "sh", "-c", f"mount -t tmpfs proc /proc/driver && {say} exec \"$@\"", "sh",
                        *host.argv("gpus", "--json")], env=host.env, capture_output=True, text=True, timeout=60, check=True)
    assert [g["caps"] for g in json.loads(r.stdout)] == [None, caps, None]


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


# --- locks and gpus:run ---

HOLD = 'echo "$CUDA_VISIBLE_DEVICES" >"$1.got"; while [ ! -e "$1.go" ]; do sleep 0.02; done'


class Holder:
    """zr gpus:run in the background, holding until it is told to go."""
    count = 0

    def __init__(self, host, *options):
        Holder.count += 1
        self.path = os.path.join(host.base, f"hold{Holder.count}")
        self.process = subprocess.Popen(host.argv("gpus:run", *options, "--", "sh", "-c", HOLD, "sh", self.path), env=host.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.path + ".err", "w"))
        host.holders.append(self)

    def got(self, wait=True):
        def read():
            try:
                with open(self.path + ".got") as f:
                    return (f.read().strip() or None)
            except FileNotFoundError:
                return None
        return wait_for(read, 20, "the GPUs to be held") if wait else read()

    def waits(self):
        def said():
            with open(self.path + ".err") as f:
                return "waiting for GPUs" in f.read()
        wait_for(said, 20, "it to wait")
        return self

    def go(self):
        open(self.path + ".go", "w").close()
        return self.process.wait(20)


@pytest.fixture
def busy(host):
    host.holders = []
    yield host
    for h in host.holders:
        open(h.path + ".go", "w").close()
        if h.process.poll() is None:
            h.process.kill()
        h.process.wait()


def test_run_sets_the_environment_and_passes_the_status(busy):
    busy.fake.scenario([2, 1, {"uuid": uuid(3), "cc": "8.0", "total": 40536}])
    show = ["--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES $ZR_GPUS $CUDA_DEVICE_ORDER; ls -l /proc/self/fd; exit 7"]
    r = busy.zr("gpus:run", "-n", 2, *show, check=7)
    both = f"{uuid(1)},{uuid(2)}"
    assert r.stdout.splitlines()[0] == f"{both} {both} PCI_BUS_ID" and ".lock" not in r.stdout and "queue" not in r.stdout
    assert busy.zr("gpus:run", "--arch", "AMPERE", *show, check=7).stdout.split()[0] == uuid(3)
    assert busy.zr("gpus:run", "--arch", "sm_80", "--memory", "40G", *show, check=7).stdout.split()[0] == uuid(3)
    assert busy.zr("gpus:run", "--", "sh", "-c", "kill -KILL $$", check=137)
    assert "of the 3 of this host 2 fit" in busy.zr("gpus:run", "-n", 3, "--arch", "hopper", "--", "true", check=1).stderr
    assert "of the 3 of this host 0 fit" in busy.zr("gpus:run", "--memory", "100G", "--", "true", check=1).stderr
    assert "want Volta, Turing" in busy.zr("gpus:run", "--arch", "hoper", "--", "true", check=2).stderr
    assert "there is no command 'no-such'" in busy.zr("gpus:run", "--", "no-such", check=1).stderr
    assert sorted(os.listdir(busy.locks)) == [f"gpu_{uuid(i)}.lock" for i in (1, 2, 3)] + ["queue"]
    for i in (1, 2, 3):
        st = os.stat(f"{busy.locks}/gpu_{uuid(i)}.lock")
        assert (st.st_mode & 0o777, st.st_size) == (0o600, 0)
    assert os.listdir(busy.locks + "/queue") == ["last"]


def test_one_after_another_and_a_limit_to_the_wait(busy):
    busy.fake.scenario([1])
    first = Holder(busy)
    assert first.got() == uuid(1)
    assert '"boot"' in open(f"{busy.locks}/gpu_{uuid(1)}.lock").read()
    r = busy.zr("gpus:run", "--wait", "100ms", "--", "true", check=75)
    assert "not enough GPUs came free in 100ms" in r.stderr
    busy.zr("gpus:run", "--wait", "0s", "--", "true", check=75)
    second = Holder(busy).waits()
    assert second.got(wait=False) is None
    assert first.go() == 0 and second.got() == uuid(1) and second.go() == 0


def test_a_killed_holder_frees(busy):
    busy.fake.scenario([1])
    first = Holder(busy)
    first.got()
    second, third = Holder(busy).waits(), Holder(busy).waits()
    second.process.kill()
    second.process.wait()
    first.process.kill()
    first.process.wait()
    assert third.got() == uuid(1) and third.go() == 0
    first.go()


def test_a_large_request_is_not_starved(busy):
    busy.fake.scenario([1, 2])
    a, b = Holder(busy), Holder(busy)
    assert {a.got(), b.got()} == {uuid(1), uuid(2)}
    large = Holder(busy, "-n", 2).waits()
    small = Holder(busy).waits()
    a.go()
    # One is free now, and it is kept for who came first.
    busy.zr("gpus:run", "--wait", "300ms", "--", "true", check=75)
    assert small.got(wait=False) is None and large.got(wait=False) is None
    b.go()
    assert large.got() == f"{uuid(1)},{uuid(2)}" and small.got(wait=False) is None
    large.go()
    assert small.got() in (uuid(1), uuid(2)) and small.go() == 0


def test_who_wants_something_else_does_not_queue(busy):
    busy.fake.scenario([1, {"uuid": uuid(2), "cc": "8.0"}])
    hopper = Holder(busy, "--arch", "hopper")
    hopper.got()
    waiting = Holder(busy, "--arch", "hopper").waits()
    busy.zr("gpus:run", "--arch", "ampere", "--wait", "0s", "--", "true")
    hopper.go()
    assert waiting.got() == uuid(1)


def test_index_locks_keep_to_other_programs(busy):
    busy.fake.scenario([5, 6])
    index = os.path.join(busy.base, "index")
    os.mkdir(index)
    busy.settings(gpu_index_lock_dir=index)
    with open(index + "/gpu_0.lock", "w") as foreign:
        fcntl.flock(foreign, fcntl.LOCK_EX)
        assert busy.zr("gpus:run", "--", "printenv", "ZR_GPUS").stdout.strip() == uuid(6)
        both = Holder(busy, "-n", 2).waits()
        assert both.got(wait=False) is None
        fcntl.flock(foreign, fcntl.LOCK_UN)
        assert both.got() == f"{uuid(5)},{uuid(6)}"
        with pytest.raises(BlockingIOError):
            fcntl.flock(foreign, fcntl.LOCK_EX | fcntl.LOCK_NB)
        both.go()


def test_a_part_and_the_whole_exclude_each_other(busy):
    whole, parts = {"uuid": uuid(1)}, [{"uuid": uuid(i, "MIG"), "parent": uuid(1)} for i in (7, 8)]
    busy.fake.scenario(parts)
    a, b = Holder(busy), Holder(busy)
    assert {a.got(), b.got()} == {uuid(7, "MIG"), uuid(8, "MIG")}
    busy.fake.scenario([whole])
    w = Holder(busy).waits()
    a.go()
    b.go()
    assert w.got() == uuid(1)


@pytest.mark.parametrize("spoil, words", [
    (lambda h: os.chmod(h.locks, 0o777), "may be written by others than its owner"),
    (lambda h: (os.rmdir(h.locks), os.symlink("/tmp", h.locks)), "gpu_lock_dir"),
    (lambda h: os.symlink("/etc/passwd", f"{h.locks}/gpu_{uuid(1)}.lock"), "Too many levels of symbolic links"),
    (lambda h: os.mkfifo(f"{h.locks}/gpu_{uuid(1)}.lock"), "is no regular file")])
def test_folders_and_files_that_are_not_ours_are_refused(busy, spoil, words):
    busy.fake.scenario([1])
    spoil(busy)
    assert words in busy.zr("gpus:run", "--", "true", check=1).stderr


def test_quarantine_is_kept_to_and_released(busy):
    busy.fake.scenario([1, 2])
    with open(f"{busy.locks}/gpu_{uuid(1)}.quarantine", "w") as f:
        f.write("leftover: 2 processes\n")
    assert [g["quarantine"] for g in busy.gpus()] == ["leftover: 2 processes", None]
    assert busy.zr("gpus:run", "--", "printenv", "ZR_GPUS").stdout.strip() == uuid(2)
    assert "1 of the 2 GPUs that would do are in quarantine" in busy.zr("gpus:run", "-n", 2, "--", "true", check=1).stderr
    busy.zr("gpus:release", uuid(1))
    assert "is in no quarantine" in busy.zr("gpus:release", uuid(1), check=1).stderr
    busy.zr("gpus:run", "-n", 2, "--", "true")


def test_no_gpu_here(busy):
    busy.fake.scenario([], init_error=100)
    r = busy.zr("gpus:run", "--", "true", check=1)
    assert "asks for 1 GPU, and this host has none that can be used: the driver sees no GPU" in r.stderr
