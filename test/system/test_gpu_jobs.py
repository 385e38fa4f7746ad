# SPDX-License-Identifier: MIT
"""Jobs on GPUs: through the keeper alone, and through broker and worker. All GPUs are fake (test/fake/libcuda)."""
import fcntl
import glob
import json
import os
import time

import pytest

from lib import boxes
from lib.boxes import Box, alive, not_renewed
from lib.fakegpu import FakeGpus, uuid
from lib.wait import wait_for

GROUPS = boxes.groups()
LIMITS = {"memory_bytes": 256 << 20, "pids": 64, "disk_bytes": 32 << 20}


def gpu(n, **more):
    return {"index": n - 1, "uuid": uuid(n), "name": "H100", "compute_capability": "9.0", "memory_bytes": 80 << 30, "node": n, **more}


class GpuBox(Box):
    """`gpus`: how many; `of`: of which."""

    def __init__(self, base, groups=None):
        super().__init__(base, GROUPS if groups is None else groups)
        self.locks = os.path.join(self.base, "locks")
        for d in (self.base, self.evaluator, self.submission):
            os.chmod(d, 0o755)

    def write_spec(self, run, gpus=1, of=(1,), wait=None, fake=None, **more):
        request = {"count": gpus, "lock_dir": self.locks, "double": True, "list": [gpu(n) if isinstance(n, int) else n for n in of]}
        if wait is not None:
            request["wait_usec"] = wait
        if fake:
            request |= {"settle_usec": 5000000, "library": fake.library}
        super().write_spec(run, gpus=request, **more)

    def lock(self, n=1):
        return os.path.join(self.locks, f"gpu_{uuid(n)}.lock")

    def tickets(self):
        try:
            return [n for n in os.listdir(self.locks + "/queue") if n != "last"]
        except FileNotFoundError:
            return []


def is_locked(path):
    with open(path) as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True


@pytest.fixture
def make(tmp_path):
    made = []

    def one():
        made.append(GpuBox(tmp_path))
        return made[-1]
    yield one
    for b in made:
        b.stop()


ENV = 'echo "$ZR_PHASE:${CUDA_VISIBLE_DEVICES-unset}:${ZR_GPUS-unset}:${CUDA_DEVICE_ORDER-unset}"; ls -l /proc/self/fd | grep -c lock; '


def test_phases_and_figures(make):
    box = make()
    r = box.run(prepare=ENV + "true", run=ENV + "sleep 0.1", score=ENV + "true", gpus=2, of=(2, 1),
                env={}, limits={"wall_usec": 5000000})
    assert r["reason"] == "ok", r
    both = f"{uuid(1)},{uuid(2)}"
    assert box.read("out.log").decode().splitlines() == [
        "prepare::unset:unset", "0", f"run:{both}:{both}:PCI_BUS_ID", "0", "score::unset:unset", "0"]
    assert [(g["uuid"], g["architecture"], g["double"]) for g in r["isolation"]["gpu"]] == [
        (uuid(1), "Hopper", True), (uuid(2), "Hopper", True)]
    assert 0 <= r["usage"]["gpu_wait_usec"] < 5e6 and 1e5 <= r["usage"]["gpu_hold_usec"] < 5e6
    assert "gpu-devices" in [m["what"] for m in r["isolation"]["missing"]]
    assert not is_locked(box.lock(1)) and os.path.getsize(box.lock(1)) == 0 and not box.tickets()
    plain = Box(box.base, GROUPS).run("true")
    assert "gpu_wait_usec" not in plain["usage"] and "gpu" not in plain["isolation"]


def test_two_jobs_on_one_gpu_run_one_after_the_other(make):
    a, b = make(), make()
    run = f'echo b $(date +%s%N) >>{a.base}/t; sleep 0.3; echo e $(date +%s%N) >>{a.base}/t'
    a.start(run)
    b.start(run)
    ra, rb = a.wait(), b.wait()
    assert ra["reason"] == rb["reason"] == "ok"
    with open(a.base + "/t") as f:
        lines = [line.split() for line in f]
    assert [w for w, _ in lines] == ["b", "e", "b", "e"]
    assert max(r["usage"]["gpu_wait_usec"] for r in (ra, rb)) > 250000
    # The wait is no part of the phase's time.
    assert max(r["usage"]["wall_usec"] for r in (ra, rb)) < 900000


def hold(make, **kw):
    box = make()
    box.start(f"echo $$ >{box.base}/pid-{box.id}; sleep 1000 & exec sleep 1001", **kw)
    box.job = box.pid("pid-" + box.id)
    return box


def waits(box):
    wait_for(lambda: len(box.tickets()) >= 1, 10, "a ticket")
    return box


def test_killed_keeper_frees_and_the_next_sees_it_dead(make):
    first = hold(make)
    assert json.loads(open(first.lock()).read())["box"] == first.id and is_locked(first.lock())
    second = waits(make().start(f"echo next; kill -0 {first.job} && echo alive; true"))
    first.process.kill()
    first.process.wait()
    r = second.wait()
    assert r["reason"] == "ok" and second.read("out.log") == b"next\n"
    assert not alive(first.job)
    if "v2" in GROUPS:
        with open(os.path.join(GROUPS["v2"], "zr-" + first.id, "cgroup.events")) as f:
            assert "populated 0" in f.read()
        os.rmdir(os.path.join(GROUPS["v2"], "zr-" + first.id))


def test_cancel_while_waiting(make):
    first = hold(make)
    second = waits(make().start("echo never"))
    s = second.connect()
    s.sendall(b'{"t":"cancel"}\n')
    r = second.wait(10)
    assert (r["reason"], r["started_at"]) == ("canceled", None) and r["usage"]["gpu_wait_usec"] > 0
    assert "gpu_hold_usec" not in r["usage"] and not second.tickets() and is_locked(first.lock())


def test_signal_while_waiting(make):
    hold(make)
    second = waits(make().start("echo never"))
    second.process.terminate()
    assert second.wait(10)["reason"] == "infrastructure"


def test_lease_while_waiting(make):
    """It ends without having begun; one that is renewed waits on. `prepare` counts for it too."""
    first = hold(make)
    second = waits(make().start(prepare="sleep 0.5", run="echo never", lease_usec=2000000))
    third = make().start("echo went on", lease_usec=1000000)
    wait_for(lambda: len(third.tickets()) == 2, 10, "two tickets")
    third.say(t="lease", usec=60000000)
    r = second.wait(10)
    assert (r["reason"], r["detail"], r["phase"]) == ("lost", not_renewed("2s"), "prepare") and not second.has("out.log")
    assert 500000 < r["usage"]["gpu_wait_usec"] < 1500000 and "gpu_hold_usec" not in r["usage"]
    assert len(third.tickets()) == 1 and third.process.poll() is None and is_locked(first.lock())
    first.say(t="cancel")
    assert third.wait(10)["reason"] == "ok" and third.read("out.log") == b"went on\n"


def test_limit_of_the_wait(make):
    hold(make)
    second = make()
    r = second.run("echo never", wait=200000)
    assert (r["reason"], r["detail"]) == ("infrastructure", "no 1 GPU came free for run in 200ms")
    assert not second.has("out.log") or second.read("out.log") == b""


def test_a_large_request_is_not_starved(make):
    a, b = hold(make, of=(1,)), hold(make, of=(2,))
    large = waits(make().start(f"echo large >>{a.base}/order; sleep 0.2", gpus=2, of=(1, 2)))
    small = make().start(f"echo small >>{a.base}/order", of=(1, 2))
    wait_for(lambda: len(small.tickets()) == 2, 10, "two tickets")
    for box in (a, b):
        s = box.connect()
        s.sendall(b'{"t":"cancel"}\n')
        box.wait(10)
    assert large.wait()["reason"] == small.wait()["reason"] == "ok"
    with open(a.base + "/order") as f:
        assert f.read().split() == ["large", "small"]


def test_waiting_costs_no_processor_time(make):
    hold(make)
    second = waits(make().start("true"))

    def ticks():
        with open(f"/proc/{second.process.pid}/stat") as f:
            return sum(int(v) for v in f.read().rsplit(")", 1)[1].split()[11:13])

    def switches():
        with open(f"/proc/{second.process.pid}/status") as f:
            return sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
    wait_for(lambda: os.path.exists(f"/proc/{second.process.pid}/task/{second.process.pid}/children") and
             open(f"/proc/{second.process.pid}/task/{second.process.pid}/children").read().strip(), 10, "a child that waits")
    before, n = ticks(), switches()
    time.sleep(0.5)
    assert ticks() - before <= 1 and switches() - n <= 2


def test_folder_that_cannot_be_trusted(make):
    box = make()
    os.mkdir(box.locks)
    os.chmod(box.locks, 0o777)
    r = box.run("echo never")
    assert r["reason"] == "infrastructure" and "may be written by others than its owner" in r["detail"]


@pytest.mark.parametrize("words, told", (("torch.OutOfMemoryError: CUDA out of memory.", True), ("cudaErrorMemoryAllocation", True),
                                         ("out of patience", False)))
def test_a_gpu_without_memory_is_told_from_the_log(make, tmp_path, words, told):
    """After a megabyte of other words, on either stream. Who holds no GPU cannot have lacked its memory, and who ended well neither."""
    more = "; by its log a GPU had no memory left"
    for stream in (1, 2):
        fails = f"head -c 1000000 /dev/zero | tr '\\0' x >&{stream}; echo '{words}' >&{stream}; "
        r = make().run(fails + "exit 3", log_cap=4 << 20)
        assert (r["reason"], r["detail"]) == ("exit", "run exited with status 3" + (more if told else ""))
    assert make().run(fails + "kill -ABRT $$")["detail"].endswith(more) == told
    assert Box(tmp_path, GROUPS).run(fails + "exit 3")["detail"] == "run exited with status 3"
    assert make().run(fails)["reason"] == "ok"


# --- what is left on a GPU ---

@pytest.fixture
def fake(tmp_path):
    return FakeGpus(os.path.join(tmp_path, "cuda"))


def quarantine(box, n=1):
    try:
        with open(f"{box.locks}/gpu_{uuid(n)}.quarantine") as f:
            return f.read()
    except FileNotFoundError:
        return None


def test_clean_before_and_after(make, fake):
    fake.scenario([{"uuid": uuid(1), "used": 500}])
    box = make()
    r = box.run("true", fake=fake)
    assert r["reason"] == "ok" and r["isolation"]["gpu_check"] == {"method": "nvml", "before": "clean", "after": "clean"}
    assert quarantine(box) is None
    with open(f"{box.locks}/gpu_{uuid(1)}.baseline") as f:
        assert f.read() == f"580.00.00 {500 << 20}\n"


def test_clocks_before_and_after(make, fake):
    fake.scenario([{"uuid": uuid(1), "mhz": 1980, "throttle": 5}, {"uuid": uuid(2)}])
    r = make().run("true", fake=fake, gpus=2, of=(1, 2))
    for when in ("before", "after"):
        one, two = r["conditions"]["gpu"][when]
        assert one == {"uuid": uuid(1), "sm_mhz": 1980, "memory_mhz": 3960, "temperature": 41, "power_mw": None, "throttled": ["power-cap"]}
        assert (two["sm_mhz"], two["throttled"]) == (None, [])


def test_leftover_of_a_job_puts_its_gpu_in_quarantine(make, fake):
    fake.scenario([{"uuid": uuid(1), "used": 500}, 2])
    box = make()
    line = f"gpu uuid={uuid(1)} used=600 total=81920"
    r = box.run(f"echo '{line}' >{fake.dir}/scenario", fake=fake, timeout=60)
    assert r["reason"] == "ok" and r["isolation"]["gpu_check"]["after"].startswith("leftover: 100.0 MiB of its memory in use")
    assert quarantine(box).startswith("leftover: 100.0 MiB")
    r = make().run("echo never", fake=fake)
    assert r["reason"] == "infrastructure" and "1 of the 1 GPUs that would do are in quarantine" in r["detail"]


def test_what_comes_back_late_is_waited_for(make, fake):
    fake.scenario([{"uuid": uuid(1), "procs": 1}])
    box = make().start("true", fake=fake)
    wait_for(lambda: is_locked(box.lock()) if os.path.exists(box.lock()) else False, 10, "the GPU to be held")
    time.sleep(0.3)  # as long as the memory of a killed process may take
    fake.scenario([1])
    r = box.wait()
    assert r["reason"] == "ok" and r["isolation"]["gpu_check"]["before"] == "clean" and quarantine(box) is None


def test_a_busy_or_sick_gpu_is_passed_over(make, fake):
    fake.scenario([{"uuid": uuid(1), "lost": 15}, {"uuid": uuid(2), "procs": 3}, 3])
    box = make()
    r = box.run("echo $ZR_GPUS", fake=fake, of=(1, 2, 3), timeout=60)
    assert r["reason"] == "ok" and box.read("out.log").decode() == uuid(3) + "\n"
    assert quarantine(box, 1).startswith("sick: the GPU has gone (NVML error 15)")
    assert quarantine(box, 2).startswith("leftover: 3 processes on it")


def test_without_libnvidia_ml_nothing_is_known(make, fake):
    fake.scenario([1], nvml_error=9)
    r = make().run("true", fake=fake)
    assert r["reason"] == "ok" and r["isolation"]["gpu_check"] == {"method": "off", "before": "unknown", "after": "unknown"}


def test_a_driver_that_hangs_does_not_hang_the_keeper(make, fake):
    fake.scenario([1], hang="check")
    box = make().start("echo never", fake=fake)
    wait_for(lambda: is_locked(box.lock()) if os.path.exists(box.lock()) else False, 10, "the GPU to be held")
    r = box.wait(40)
    assert r["reason"] == "infrastructure" and quarantine(box).startswith("sick: the GPUs are not known: the driver has not answered")


# --- in the sandbox ---

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(not {"v1_memory", "v2_memory"} & set(GROUPS), reason="no memory controller")
class TestSandbox:
    # The test's own folders may be in /dev/shm.
    FAKE_DEV = ("mount -t tmpfs dev /run && mkdir -m 1777 /run/shm && mount --bind /dev/shm /run/shm && "
                "for n in null zero full random urandom; do touch /run/$n && mount --bind /dev/$n /run/$n; done && "
                "mkdir /run/nvidia-caps && for n in 21 22 23; do mknod -m 666 /run/nvidia-caps/nvidia-cap$n c 236 $n; done && "
                "mknod -m 666 /run/nvidiactl c 195 255 && for n in 0 1 2; do mknod -m 666 /run/nvidia$n c 195 $n; done && "
                "mount --rbind /run /dev && exec \"$@\"")
    LOOK = "cd /dev; echo $ZR_PHASE $(ls -d nvidia* 2>/dev/null)\n"

    def run(self, box, **kw):
        kw.setdefault("prepare", self.LOOK)
        kw.setdefault("score", self.LOOK)
        return box.run(kw.pop("run", self.LOOK + "stat -c '%t:%T %a' nvidia1; (: <nvidia2) 2>&1 | grep -o 'No such.*'"),
                       isolation={"level": "sandbox"}, limits=LIMITS, **kw)

    def test_only_the_held_gpus_are_there(self, make):
        box = make()
        r = self.run(box, wrapper=["unshare", "-m", "sh", "-c", self.FAKE_DEV, "sh"], env={"PATH": os.environ["PATH"]})
        assert r["reason"] == "ok", r
        assert box.read("out.log").decode().splitlines() == [
            "prepare", "run nvidia1 nvidiactl", "c3:1 666", "No such file or directory", "score"]
        assert r["isolation"]["gpu"][0]["uuid"] == uuid(1)

    def test_a_double_needs_no_nodes(self, make):
        r = self.run(make(), run=self.LOOK)
        assert r["reason"] == "ok", r

    def test_what_cannot_be_shown_is_refused(self, make):
        r = self.run(make(), run="true", of=[gpu(1, node=None)])
        assert r["reason"] == "setup" and "which /dev/nvidiaN is GPU" in r["detail"]
        r = self.run(make(), run="true", of=[gpu(1, uuid=uuid(1, "MIG"), parent=uuid(2))])
        assert r["reason"] == "setup" and "a part of one (MIG), is not known: there is no libnvidia-ml.so.1 or no" in r["detail"]

    def test_a_part_has_its_own_devices(self, make):
        """And the whole GPU's, which alone gives access to nothing."""
        parts = [gpu(i, uuid=uuid(i, "MIG"), parent=uuid(9), node=1, caps=[21, 20 + i]) for i in (2, 3)]
        look = "cd /dev; echo $ZR_PHASE $(find . -name 'nvidia*' -type c | sort)\n"
        for of, want in ((parts[:1], "21 22"), (parts, "21 22 23")):
            box = make()
            r = self.run(box, prepare=look, score=look, run=look + "stat -c '%t:%T %a' nvidia-caps/nvidia-cap21", of=of, gpus=len(of),
                         wrapper=["unshare", "-m", "sh", "-c", self.FAKE_DEV, "sh"], env={"PATH": os.environ["PATH"]})
            assert r["reason"] == "ok", r
            caps = " ".join(f"./nvidia-caps/nvidia-cap{n}" for n in want.split())
            assert box.read("out.log").decode().splitlines() == ["prepare", f"run {caps} ./nvidia1 ./nvidiactl", "ec:15 666", "score"]


# --- through the broker ---

@pytest.fixture
def site(sandbox):
    sandbox.prepare()
    sandbox.fake = FakeGpus(os.path.join(sandbox.dir, "cuda"))
    sandbox.setting("cuda_library", sandbox.fake.library)
    sandbox.setting("gpu_lock_dir", os.path.join(sandbox.dir, "locks"))
    return sandbox


def submit(site, evaluator):
    if not any(c["label"] == evaluator for c in site.zr_json("challenges")):
        site.zr("challenges:add", evaluator, "--evaluator", evaluator)
    path = os.path.dirname(site.file("sub/answer", "x"))
    return site.zr_id("submissions:eval", site.zr_id("submissions:create", evaluator, path))


SCRIPT = '#!/bin/sh\necho "$ZR_GPUS" >>{f}/log; while [ ! -e {f}/go ]; do sleep 0.02; done; echo end >>{f}/log; echo "{{}}" >$ZR_OUTPUT/scores.json\n'


def test_end_to_end(site):
    folder = os.path.join(site.dir, "barrier")
    os.mkdir(folder)
    site.fake.scenario([1])
    site.evaluator("one", SCRIPT.format(f=folder), 'run = "run.sh"\ngpus = 1\ngpu_arch = "hopper"\ngpu_memory = "80G"\n')
    site.evaluator("many", "#!/bin/sh\n", 'run = "run.sh"\ngpus = 2\n')
    site.evaluator("ada", "#!/bin/sh\n", 'run = "run.sh"\ngpus = 1\ngpu_arch = "ada"\n')
    site.update_worker()
    worker = site.eval_worker("-w", 1, "--prefetch-count", 3)
    listed = {e["name"]: e for e in site.zr_json("evaluators")}
    assert "error" not in listed["one"] and "of the 1 of this host 1 fit" in listed["many"]["error"]
    a, b = submit(site, "one"), submit(site, "one")
    wait_for(lambda: len(glob.glob(os.path.join(site.dir, "locks/queue", "[0-9]*"))) == 1, 30, "one to wait")
    refused = site.wait_evaluation(submit(site, "ada"), "failed")
    assert refused["reason"] == "setup"
    assert "asks for 1 GPU of architecture ada, and of the 1 of this host 0 fit" in site.zr("evaluations:why", refused["id"]).stdout
    c = submit(site, "one")
    site.zr("evaluations:cancel", c)
    site.wait_evaluation(c, "canceled")
    open(folder + "/go", "w").close()
    for ident in (a, b):
        site.wait_evaluation(ident, "completed")
    with open(folder + "/log") as f:
        assert f.read().split() == [uuid(1), "end"] * 2
    assert "1 GPUs (fake)" in worker.log()


def test_no_gpu_on_this_host(site):
    site.fake.scenario([], init_error=34)
    site.evaluator("one", "#!/bin/sh\n", 'run = "run.sh"\ngpus = 1\n')
    site.update_worker()
    site.eval_worker()
    ident = submit(site, "one")
    assert site.wait_evaluation(ident, "failed")["reason"] == "setup"
    why = site.zr("evaluations:why", ident).stdout
    assert "this host has none that can be used: libcuda.so.1 is the CUDA toolkit's stub" in why


def test_a_driver_that_hangs_does_not_hang_the_worker(site):
    site.fake.scenario([1], hang="init")
    site.evaluator("one", "#!/bin/sh\n", 'run = "run.sh"\ngpus = 1\n')
    ident = submit(site, "one")
    site.update_worker()
    wait_for(lambda: any(q["messages"] for q in site.zr_json("queues") if q["name"] == "zr.eval.default"), 20)
    worker = site.eval_worker()
    worker.stop(10)
    site.eval_worker()
    assert site.wait_evaluation(ident, "failed")["reason"] == "setup"
    assert "the driver has not answered" in site.zr("evaluations:why", ident).stdout
