# SPDX-License-Identifier: MIT
"""zr-box at isolation level `sandbox`: how jobs end, what they see, what they are refused."""
import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time

import pytest

from lib import boxes
from lib.boxes import Box, alive, not_renewed, now
from lib.wait import wait_for

GROUPS = boxes.groups()
LIMITS = {"memory_bytes": 256 << 20, "pids": 64, "disk_bytes": 32 << 20}
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not {"v1_memory", "v2_memory"} & set(GROUPS), reason="no memory controller")]


class Jailed(Box):
    """A box whose jobs ask for the sandbox; its folders can be read by every user, as a cache can."""

    def __init__(self, base, groups_=None):
        super().__init__(base, GROUPS if groups_ is None else groups_)
        for d in (self.base, self.evaluator, self.submission):
            os.chmod(d, 0o755)

    def write_spec(self, run, limits=None, isolation=None, **more):
        super().write_spec(run, limits={**LIMITS, **(limits or {})}, isolation={"level": "sandbox", **(isolation or {})}, **more)


@pytest.fixture
def box(tmp_path):
    b = Jailed(tmp_path)
    yield b
    b.stop()
    assert not b.cgroup_dirs()


@pytest.fixture
def elsewhere():
    """A folder of the host outside /tmp, which is a folder of the box's own."""
    d = tempfile.mkdtemp(prefix="zr-test-", dir="/var/tmp")
    os.chmod(d, 0o755)
    yield d
    shutil.rmtree(d)


def mounts():
    with open("/proc/self/mountinfo") as f:
        return f.read()


def lines(box, name="out.log"):
    return box.read(name).decode().splitlines()


# --- how it ends ---

def test_ok(box):
    before = mounts()
    r = box.run('echo out; echo err >&2; echo "$#:$1:$0" >$ZR_OUTPUT/args; mkdir $ZR_OUTPUT/d; echo \'{"a":1.5}\' >$ZR_OUTPUT/scores.json')
    assert (r["reason"], r["exit_code"], r["scores"]) == ("ok", 0, {"a": 1.5})
    assert lines(box) == ["out"] and lines(box, "err.log") == ["err"]
    i = r["isolation"]
    assert (i["level"], i["privilege"], i["network"]) == ("sandbox", "root", "none")
    assert {"pidns", "mntns", "netns", "seccomp", "slot-uid", "private-root"} <= set(i["mechanisms"])
    assert i["end"] == {**i["end"], "method": "cgroup2.kill+pidns", "leftovers": 0}
    tar = subprocess.run(["tar", "--zstd", "-xOf", box.sealed + "/result.tar.zst", "args"], capture_output=True, check=True)
    assert tar.stdout.decode() == f"1:/submission:/evaluator/run-{box.id[-6:]}\n"
    assert mounts() == before and not os.path.exists(box.dir + "/jail")


@pytest.mark.parametrize("status", [1, 126, 127, 137, 255])
def test_exit_status(box, status):
    r = box.run(f"exit {status}")
    assert (r["reason"], r["exit_code"], r["signal"]) == ("exit", status, None)


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM", "ABRT"])
def test_signal(box, name):
    r = box.run(f"kill -{name} $$; sleep 5")
    assert (r["reason"], r["exit_code"], r["signal"]) == ("signal", None, int(getattr(signal, "SIG" + name)))


def test_setup_failures(box):
    r = box.run("#!/no/such/interpreter\n")
    assert r["reason"] == "setup" and "its interpreter '/no/such/interpreter': No such file" in r["detail"]
    r = Jailed(box.base).run("/no/such/file")
    assert (r["reason"], r["detail"]) == ("setup", "run: cannot execute /no/such/file: No such file or directory")
    os.makedirs(box.base + "/opt")
    os.symlink("/bin/sh", box.base + "/opt/sh")
    r = Jailed(box.base).run(f"#!{box.base}/opt/sh\n")
    assert r["reason"] == "setup" and "a sandbox does not show it; name its folder in 'mounts'" in r["detail"]
    other = Jailed(box.base)
    r = other.run(other.script("echo hi", mode=0o644))
    assert r["reason"] == "setup" and r["detail"].endswith("Permission denied") and r["started_at"] is None


def names_in_result(box):
    pack = box.sealed + "/result.tar.zst"
    return set(subprocess.run(["tar", "--zstd", "-tf", pack], capture_output=True, text=True, check=True).stdout.split())


def test_last_in_its_mount_namespace(box):
    """What it leaves is gone at once, and its folder is on a mount of its own."""
    r = box.run("echo out", wrapper=("/usr/bin/unshare", "-m", "/bin/sh", "-c", 'mount --bind "$0" "$0" && exec "$@"', box.base))
    assert r["reason"] == "ok" and lines(box) == ["out"], r


def test_phases(box):
    r = box.run(prepare="echo p >made; echo t >$TMPDIR/t; echo s >/dev/shm/s; echo $ZR_PHASE",
                run="cat made; ls $TMPDIR /dev/shm; echo $ZR_PHASE >$ZR_OUTPUT/r; echo '{\"forged\":1}' >$ZR_OUTPUT/scores.json",
                score="ls; cat $ZR_RUN_OUTPUT/r; echo x 2>/dev/null >>$ZR_RUN_OUTPUT/r || echo read-only; echo '{\"s\":1}' >$ZR_OUTPUT/scores.json")
    assert (r["reason"], r["phase"], r["scores"]) == ("ok", "score", {"s": 1})
    assert lines(box) == ["prepare", "p", "/dev/shm:", "", "/tmp:", "run", "read-only"]
    assert {"scores.json", "run/r", "run/scores.json", ".zr/out.log"} <= names_in_result(box)


def test_keeper_killed(box):
    box.start("sleep 1000 & exec sleep 1001")
    group = os.path.join(GROUPS["v2"], "zr-" + box.id, "cgroup.procs")

    def both():
        """Process 1 and these: nothing else comes."""
        with open(group) as f:
            pids = [int(p) for p in f.read().split()]
        return pids if [open(f"/proc/{p}/comm").read() for p in pids].count("sleep\n") == 2 else None
    box.wait_journal("started")
    pids = wait_for(both, 10, "both processes")
    box.process.kill()
    box.process.wait()
    wait_for(lambda: not any(alive(p) for p in pids), 10, "them to die")
    wait_for(box.remove_groups, 10, "its groups to be empty")


@pytest.mark.parametrize("trap", ["echo bye; exit 7", ""])
def test_lease(box, trap):
    end = now() + 3000000
    box.start(f"trap '{trap}' TERM; (trap '' TERM; sleep 1000) & echo said; while :; do sleep 0.05; done", lease_usec=3000000,
              term_grace_usec=60000000)
    with box.connect() as s:
        s.recv(4096)
        with open(os.path.join(GROUPS["v2"], "zr-" + box.id, "cgroup.procs")) as f:
            pids = [int(p) for p in f.read().split()]
        assert len(pids) >= 2
        while any(alive(p) for p in pids):
            time.sleep(0.002)
        assert now() < end
    r = box.wait()
    assert (r["reason"], r["detail"], r["exit_code"]) == ("lost", not_renewed("3s"), 7 if trap else None)
    assert lines(box) == (["said", "bye"] if trap else ["said"])


def test_lease_is_renewed(box):
    os.mkfifo(box.submission + "/go", 0o644)
    box.start("read -r <$ZR_SUBMISSION/go", lease_usec=60000000)
    end = now() + 1000000
    box.say({"t": "lease", "usec": 1000000}, t="lease", usec=60000000)
    wait_for(lambda: now() > end + 100000 or not alive(box.process.pid), 10, "the first lease to be over")
    box.go()
    assert box.wait()["reason"] == "ok"


FREEZER = boxes._group("cgroup", "freezer")


@pytest.mark.needs("cgroup1")
def test_unkillable(box):
    """The script has ended, its child does not die: told after ten seconds, though init cannot end either."""
    group = os.path.join(FREEZER, "zr-test-" + box.id)
    os.mkdir(group)
    try:
        box.start("sleep 1000 & read -r <$ZR_SUBMISSION/go; exit 0")
        os.mkfifo(box.submission + "/go", 0o644)
        procs = os.path.join(GROUPS["v2"], "zr-" + box.id, "cgroup.procs")
        with open(box.submission + "/go", "w"):  # the script reads: its child is there
            deadline = time.monotonic() + 10
            while not (found := [p for p in open(procs).read().split() if open(f"/proc/{p}/comm").read() == "sleep\n"]) and time.monotonic() < deadline:
                time.sleep(0.005)
            pid = int(found[0])
            for name, text in (("cgroup.procs", str(pid)), ("freezer.state", "FROZEN")):
                with open(os.path.join(group, name), "w") as f:
                    f.write(text)
        deadline = time.monotonic() + 20
        while not any(j["t"] == "done" for j in box.journal()) and time.monotonic() < deadline:
            time.sleep(0.01)
        r = box.result()
        assert r["reason"] == "infrastructure" and "unkillable" in r["detail"] and r["root_hash"] is None
        assert box.process.poll() is None and alive(pid)
    finally:
        with open(group + "/freezer.state", "w") as f:
            f.write("THAWED")
        box.process.wait(40)
        os.rmdir(group)
    assert not alive(pid)


# --- what it sees ---

def test_environment(box):
    r = box.run("env -0", env={"AMQP_URL": "canary", "PATH": "/evil"})
    assert r["reason"] == "ok"
    seen = dict(line.split("=", 1) for line in box.read("out.log").decode().split("\0") if line)
    for made_by_bash in ("PWD", "SHLVL", "_", "OLDPWD"):
        seen.pop(made_by_bash, None)
    assert seen == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/box", "TMPDIR": "/tmp", "ZR_SUBMISSION": "/submission",
        "ZR_OUTPUT": "/output", "ZR_PROGRESS_FD": "3", "ZR_EVALUATION_ID": "42", "ZR_ATTEMPT": "1", "ZR_ATTEMPT_ID": box.id,
        "ZR_EVALUATOR": "/evaluator", "ZR_PHASE": "run"}


def test_root_is_an_allow_list(box):
    r = box.run("ls -A /; ls /dev /etc; ls -d /tmp/* /home /root /var /work /opt 2>/dev/null; touch /x /etc/x /usr/x /evaluator/x /submission/x; id -u; hostname; pwd")
    assert r["reason"] == "ok"
    out = lines(box)
    root = [n for n in out[:out.index("/dev:")] if n not in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")]
    assert root == ["box", "dev", "etc", "evaluator", "output", "proc", "submission", "sys", "tmp", "usr"]
    assert set(out[out.index("/dev:") + 1:out.index("")]) >= {"null"}
    dev = out[out.index("/dev:") + 1:out.index("/etc:") - 1]
    assert dev == ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
    assert set(out[out.index("/etc:") + 1:-3]) <= {"alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd"}
    assert int(out[-3]) > 0x70000000 and out[-2:] == ["box", "/box"]
    assert box.read("err.log").count(b"Read-only file system") == 5


def test_mounts(box, elsewhere):
    with open(elsewhere + "/a", "w") as f:
        f.write("shown\n")
    r = box.run(f"cat {elsewhere}/a; ls -A /var /var/tmp; echo x >{elsewhere}/a", isolation={"mounts": [elsewhere]})
    assert r["reason"] == "exit" and b"Read-only" in box.read("err.log")
    assert lines(box) == ["shown", "/var:", "tmp", "", "/var/tmp:", os.path.basename(elsewhere)]
    r = Jailed(box.base).run("exit 0", isolation={"mounts": ["/no/such"]})
    assert (r["reason"], r["detail"]) == ("setup", "/no/such cannot be shown in the box: No such file or directory")


def test_score_that_removes_its_output_loses_nothing_of_the_run(box):
    r = box.run(run="echo kept >$ZR_OUTPUT/r", score="rm -rf $ZR_OUTPUT; mv $ZR_OUTPUT /tmp/x; exit 0")
    assert "run/r" in names_in_result(box), r


def test_reference_is_for_score_alone(box, elsewhere):
    os.mkdir(box.evaluator + "/labels")
    for path in (box.evaluator + "/labels/all", box.evaluator + "/key", elsewhere + "/reference"):
        with open(path, "w") as f:
            f.write("canary\n")
    paths = {"reference": ["labels", "key", elsewhere + "/reference"]}
    look = f"cat $ZR_EVALUATOR/labels/all $ZR_EVALUATOR/key {elsewhere}/reference; ls $ZR_EVALUATOR/labels; echo; exit 0"
    r = box.run(prepare=look, run=look, score=look, isolation=paths)
    assert r["reason"] == "ok" and lines(box) == ["", "", "canary", "canary", "canary", "all", ""]
    assert lines(box, "err.log").count("cat: /evaluator/key: Permission denied") == 2
    # Also where the path can be reached by a mount that is there in all phases.
    other = Jailed(box.base)
    assert other.run(look, score="exit 0", isolation={**paths, "mounts": [elsewhere]})["reason"] == "ok" and lines(other) == [""]
    other = Jailed(box.base)
    assert other.run(look, isolation={**paths, "data": True})["reason"] == "ok" and lines(other)[:3] == ["canary"] * 3


def test_bare_program(box):
    with open(box.evaluator + "/other", "w") as f:
        f.write("canary")
    r = box.run("ls /evaluator; echo $0", isolation={"bare": True})
    assert r["reason"] == "ok" and lines(box) == [f"run-{box.id[-6:]}", f"/evaluator/run-{box.id[-6:]}"]


def test_submission_of_its_owner_alone(box):
    """As a fetcher leaves it: the job's uid sees it as its own."""
    os.mkdir(box.submission + "/d", 0o750)
    with open(box.submission + "/d/f", "w") as f:
        f.write("seen\n")
    os.chmod(box.submission + "/d/f", 0o640)
    os.chmod(box.submission, 0o750)
    look = "cat $ZR_SUBMISSION/d/f; stat -c %U:%G $ZR_SUBMISSION/d/f; echo x >$ZR_SUBMISSION/d/f; exit 0"
    r = box.run(look, score=look)
    if boxes.maps_owners(box.submission):
        assert r["reason"] == "ok" and lines(box) == ["seen", "box:box"] * 2
    else:
        assert r["reason"] == "setup" and r["detail"].endswith("others than its owner may not read it, and its file system cannot map owners")
        return
    assert box.read("err.log").count(b"Read-only file system") == 2


def test_what_is_ours_is_hidden(box, elsewhere):
    """The bin folder and the state folder may lie in what is shown, as /usr/lib/zr/bin does."""
    hidden = Jailed(elsewhere)
    os.makedirs(elsewhere + "/bin/other")
    os.rename(hidden.evaluator, elsewhere + "/bin/ev")
    hidden.evaluator = elsewhere + "/bin/ev"
    r = hidden.run(f"ls -A {elsewhere}/bin {elsewhere}/submission; ls {elsewhere} 2>&1; cat $0 | head -1", isolation={"mounts": [elsewhere + "/bin", elsewhere + "/submission"]})
    assert r["reason"] == "ok" and lines(hidden)[-1] == "#!/bin/bash"
    assert b"other" not in hidden.read("out.log") and b"bin': Permission denied" in hidden.read("err.log")


# --- limits ---

def test_memory(box):
    r = box.run('/usr/bin/python3 -c "x=bytearray(300<<20)"; exit 0', limits={"memory_bytes": 64 << 20})
    assert r["reason"] == "memory" and r["usage"]["memory_peak_bytes"] <= 64 << 20


def test_pids(box):
    r = box.run("for i in $(seq 40); do sleep 30 & done; wait", limits={"pids": 20})
    assert r["reason"] == "pids" and r["detail"] == "run needs more than 20 processes"


@pytest.mark.parametrize("where", ["$HOME", "$TMPDIR", "$ZR_OUTPUT", "/dev/shm"])
def test_disk(box, where):
    r = box.run(f"for i in $(seq 40); do head -c 1000000 /dev/zero >{where}/$i || exit 9; done")
    assert (r["reason"], r["exit_code"]) == ("disk", 9) and "disk limit of 32.0 MiB used up" in r["detail"]


def test_the_smallest_disk(box):
    r = box.run("echo x >$ZR_OUTPUT/x; head -c 5000 /dev/zero >y", limits={"disk_bytes": 4096})
    assert (r["reason"], r["detail"]) == ("exit", "run exited with status 153")  # 128 + SIGXFSZ, of a child


def test_number_of_files(box):
    r = box.run("/usr/bin/python3 -c 'for i in range(20000): open(str(i), \"w\")'")
    assert r["reason"] == "disk" and "files, which is the most" in r["detail"]


@pytest.mark.parametrize("how", boxes.LONG_RUNS)
def test_wall_limit(box, how):
    boxes.check_wall_limit(box, boxes.LONG_RUNS[how])


def test_wall_limit_says_goodbye(box):
    r = box.run("trap 'echo bye; exit 0' TERM; sleep 30 & wait", limits={"wall_usec": 300000 * boxes.LONGER}, term_grace_usec=5000000)
    assert (r["reason"], r["exit_code"]) == ("wall-limit", 0) and lines(box) == ["bye"]


def test_cpu_limit(box):
    r = box.run("(while :; do :; done) & while :; do :; done", limits={"cpu_usec": 1000000, "wall_usec": 15000000})
    assert r["reason"] == "cpu-limit" and 1000000 <= r["usage"]["cpu_usec"] < 1300000


def test_leftovers(box):
    r = box.run("(setsid bash -c 'trap \"\" TERM HUP; echo $$ >pid; exec sleep 1000' </dev/null >/dev/null 2>&1 3>&- &); while ! [ -s pid ]; do sleep 0.01; done")
    assert r["reason"] == "ok" and r["isolation"]["end"]["leftovers"] == 1


def test_grandchild_holds_the_output(box):
    t = time.monotonic()
    r = box.run("sleep 1000 & echo said")
    assert r["reason"] == "ok" and time.monotonic() - t < 2 and lines(box) == ["said"]


# --- control groups of a kind that not every host has ---

MORE = boxes.more_groups()


def try_devices(groups):
    """As root, from inside the groups of a box, so that nothing but them stands between."""
    paths = ("/dev/null", "/dev/urandom", "/dev/ptmx", "/dev/tty")
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for group in groups:
                with open(group + "/cgroup.procs", "w") as f:
                    f.write("0")
            for path in paths:
                try:
                    os.close(os.open(path, os.O_RDWR | os.O_NOCTTY))
                    os.write(w, b"0 ")
                except OSError as e:
                    os.write(w, b"%d " % e.errno)
            try:
                os.mknod("/dev/shm/zr-test-node", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
                os.unlink("/dev/shm/zr-test-node")
                os.write(w, b"0")
            except OSError as e:
                os.write(w, b"%d" % e.errno)
        finally:
            os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    with open(r) as f:
        return f.read().split()


@pytest.mark.parametrize("version", [2, pytest.param(1, marks=pytest.mark.needs("cgroup1"))])
def test_devices_are_closed_by_a_group(box, version):
    if version == 1:
        if "v1_devices" not in MORE or "v1_memory" not in GROUPS or "v1_pids" not in GROUPS:
            pytest.skip("no version 1 controllers")
        box.groups = {**{k: v for k, v in GROUPS.items() if k != "v2"}, "v1_devices": MORE["v1_devices"]}
    box.start("sleep 1000")
    with box.connect() as s:
        until_told(s, "started")
        seen = try_devices([d for d in box.cgroup_dirs() if version == 2 or "/devices/" in d])
        s.sendall(b'{"t":"kill"}\n')
    i = box.wait()["isolation"]
    assert f"cgroup{version}.devices" in i["mechanisms"] and "device-cgroup" not in {m["what"] for m in i["missing"]}, i
    # ptmx would be opened (or not be there at all), a terminal is not ours (ENXIO)
    assert seen == ["0", "0", "1", "1", "1"], seen


@pytest.mark.parametrize("level", ["none", "sandbox"])
def test_share_of_processors(box, level):
    if not {"v1_cpu", "v2_cpu"} & set(MORE):
        pytest.skip("no cpu controller")
    box.groups = {**GROUPS, **{k: v for k, v in MORE.items() if k.endswith("_cpu")}}
    r = box.run("timeout 1 sh -c 'while :; do :; done' & timeout 1 sh -c 'while :; do :; done'; wait", cpu_percent=20, cpu_weight=50,
                isolation={"level": level})
    used = r["usage"]
    assert r["reason"] == "ok" and used["wall_usec"] >= 1000000 and used["cpu_usec"] < 0.45 * used["wall_usec"], r
    assert any(m in r["isolation"]["mechanisms"] for m in ("cgroup1.cpu", "cgroup2.cpu"))
    r = Jailed(box.base, GROUPS).run("exit 0", cpu_percent=20, isolation={"level": level})
    assert "cgroup.cpu" in {m["what"] for m in r["isolation"]["missing"]}


# --- measuring ---

TWO = pytest.mark.needs("processors")
WHERE = "grep Cpus_allowed_list /proc/self/status | cut -f2; taskset -pc 0-1 $$ >/dev/null; grep Cpus_allowed_list /proc/self/status | cut -f2"


@TWO
@pytest.mark.parametrize("level", ["none", "sandbox"])
@pytest.mark.parametrize("cpuset", [True, False], ids=["cpuset", "affinity"])
def test_reserved_processors(box, level, cpuset):
    """prepare and other jobs are kept off them; a job cannot change that where there is a control group."""
    if cpuset and not {"v1_cpuset", "v2_cpuset"} & set(MORE):
        pytest.skip("no cpuset controller")
    box.groups = {**GROUPS, **({k: v for k, v in MORE.items() if k.endswith("_cpuset")} if cpuset else {})}
    cpus = {"timing_cpus": "1", "other_cpus": "0", "timing": True, "isolation": {"level": level}}
    r = box.run(WHERE, prepare=WHERE, score=WHERE, **cpus)
    wide = [] if cpuset else ["0-1"]
    assert r["reason"] == "ok" and lines(box) == [*["0", *(wide or ["0"])], *["1", *(wide or ["1"])], *["0", *(wide or ["0"])]]
    assert r["conditions"]["timing"]["cpus"] == "1" and r["conditions"]["timing"]["by"] == ("cpuset" if cpuset else "affinity")
    assert ("cpuset" in {m["what"] for m in r["isolation"]["missing"]}) is not cpuset
    other = Jailed(box.base, box.groups)
    r = other.run(WHERE, other_cpus="0", isolation={"level": level})
    assert lines(other) == ["0", *(wide or ["0"])] and "timing" not in r["conditions"]


@TWO
def test_timed_runs_wait_for_each_other(box):
    cpus = {"timing_cpus": "1", "other_cpus": "0"}
    box.start("sleep 1000", timing=True, **cpus)
    with box.connect() as s:
        until_told(s, "started")
        second = Jailed(box.base).start("sleep 0.1", prepare="echo prepared", timing=True, **cpus)
        with second.connect() as s2:
            until_told(s2, "started")  # prepare does not wait, nor does a run that nobody times
            third = Jailed(box.base)
            assert third.run("exit 0", other_cpus="0")["reason"] == "ok"
            assert second.process.poll() is None and [j for j in second.journal() if j["t"] == "phase"] == []
            s.sendall(b'{"t":"kill"}\n')
            assert box.wait()["reason"] == "canceled"
            r = second.wait()
    assert r["reason"] == "ok" and r["conditions"]["timing"]["wait_usec"] > 0
    assert r["usage"]["wall_usec"] < 1000000 and r["conditions"]["start"]["other_boxes"] >= 1


@pytest.mark.parametrize("claim,percent,why", [
    (0.2, 0, None), (50, 0, "more than all of run took"), (0, 0, "no time at all"), (-1, 50, "no time at all"),
    (0.02, 50, "less of run than the evaluator expects"), (0.29, 50, None), ('"fast"', 50, None)])
def test_claimed_time(box, claim, percent, why):
    if isinstance(claim, float):
        claim *= boxes.LONGER
    r = box.run(f"sleep {0.3 * boxes.LONGER}; echo '{{\"best\": {{\"took_s\": {claim}}}}}' >$ZR_OUTPUT/scores.json", claimed_time="best.took_s", claimed_percent=percent)
    clock = r["conditions"]["clock"]
    assert r["reason"] == "ok" and (clock["contradiction"], clock["why"]) == (why is not None, why) and 300000 <= clock["run_wall_usec"] < 2000000 * boxes.LONGER
    assert clock["claimed_usec"] == (None if claim == '"fast"' else pytest.approx(claim * 1e6))


@pytest.mark.parametrize("level", ["none", "sandbox"])
def test_conditions(box, level):
    r = box.run("exit 0", isolation={"level": level})
    host = r["conditions"]["host"]
    assert set(host) == {"cpu", "cpus", "governor", "turbo"} and host["cpus"] == os.sysconf("SC_NPROCESSORS_ONLN")
    if level == "sandbox":
        for when in ("start", "end"):
            assert len(r["conditions"][when]["load"]) == 3 and r["conditions"][when]["other_boxes"] >= 0
    else:
        assert set(r["conditions"]) == {"host"}


# --- what is counted ---

def until_told(s, kind):
    """The first message of that kind on a control socket, and of no other."""
    seen = b""
    while True:
        data = s.recv(65536)
        assert data, seen
        seen += data
        for line in seen.split(b"\n")[:-1]:
            if (message := json.loads(line))["t"] == kind:
                return message


def test_quiet(box):
    """What any program does, threads and children included, is no offence."""
    r = box.run("/usr/bin/python3 -c 'import threading,socket,subprocess;t=threading.Thread(target=print);t.start();t.join();"
                "subprocess.run([\"true\"]);s=socket.socket();s.bind((\"127.0.0.1\",0))'")
    assert (r["reason"], r["violations"]) == ("ok", {"calls": {}, "calls_total": 0, "calls_more": False, "network": 0, "loopback_refused": 0, "limits": {}})


def test_violations_are_told_while_it_runs(box):
    box.start("unshare -U true; sleep 1000")
    with box.connect() as s:
        told = until_told(s, "violation")
        assert told["phase"] == "run" and told["violations"]["calls"] == {"unshare": 1}
        s.sendall(b'{"t":"kill"}\n')
    assert box.wait()["violations"]["calls_total"] == 1


def test_violations_of_all_phases(box):
    r = box.run(prepare="unshare -U true; exit 0", run="unshare -U true; exit 0", score="unshare -U true; exit 0")
    assert r["reason"] == "ok" and r["violations"]["calls"] == {"unshare": 3}


def test_limits_that_came_near(box):
    r = box.run("head -c 30M /dev/zero >x; for i in $(seq 17); do sleep 1 & done; sleep 0.5; wait", limits={"pids": 20, "wall_usec": 6000000})
    near = r["violations"]["limits"]
    if not boxes.kernel_is(6, 6) and "pids" not in near:
        near["pids"] = {"used": 18, "hit": False}  # it does not keep the most there were, and nobody looked in time
    assert r["reason"] == "ok" and set(near) == {"disk_bytes", "pids"} and not near["disk_bytes"]["hit"] and not near["pids"]["hit"], r
    assert near["disk_bytes"]["used"] >= 30 << 20 and 18 <= near["pids"]["used"] < 20


OUTER_LISTENER = """
import ctypes, os, sys
class F(ctypes.Structure): _fields_ = [("c", ctypes.c_uint16), ("t", ctypes.c_uint8), ("f", ctypes.c_uint8), ("k", ctypes.c_uint32)]
class P(ctypes.Structure): _fields_ = [("n", ctypes.c_uint16), ("p", ctypes.POINTER(F))]
allow = F(6, 0, 0, 0x7fff0000)
fd = ctypes.CDLL(None, use_errno=True).syscall(317 if os.uname().machine == "x86_64" else 277, 1, 8, ctypes.byref(P(1, ctypes.pointer(allow))))
assert fd >= 0
os.set_inheritable(fd, True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_filter_around_us_has_the_listener(box):
    """The kernel allows but one: the calls are refused all the same, and the result says that nobody counted."""
    r = box.run("unshare -U true || echo refused", wrapper=("/usr/bin/python3", "-c", OUTER_LISTENER))
    assert r["reason"] == "ok" and lines(box) == ["refused"] and r["violations"]["calls_total"] == 0
    assert "violations.calls" in {m["what"] for m in r["isolation"]["missing"]}
    other = Jailed(box.base)
    r = other.run("unshare -U true || echo refused", wrapper=("/usr/bin/python3", "-c", OUTER_LISTENER), isolation={"stop": True})
    assert r["reason"] == "setup" and "nobody can watch" in r["detail"], r


# --- refusals ---

@pytest.mark.parametrize("groups_,limits,say", [
    ({}, {}, "there is no control group to limit memory with"),
    ({k: v for k, v in GROUPS.items() if "pids" not in k}, {}, "there is no control group to limit the number of processes with"),
])
def test_refused_without_limits(tmp_path, groups_, limits, say):
    r = Jailed(tmp_path, groups_).run("echo never", limits=limits)
    assert r["reason"] == "setup" and r["detail"].startswith('isolation "sandbox" is not possible here: ') and say in r["detail"]
    assert r["started_at"] is None and r["root_hash"] is None


def test_refused_to_root_of_a_container(box):
    r = box.run("echo never", wrapper=("unshare", "--user", "--map-root-user"))
    assert r["reason"] == "setup" and "we are root in a user namespace without the ID 18" in r["detail"]


def run_where_there_are_no_user_namespaces(words, uid):
    """In one of our own, in which no other can be made, as that user."""
    pid = os.fork()
    if pid == 0:
        try:
            assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
            os.kill(os.getpid(), signal.SIGSTOP)
            with open("/proc/sys/user/max_user_namespaces", "w") as f:
                f.write("0")
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.execve(words[0], words, {})
        finally:
            os._exit(99)
    os.waitpid(pid, os.WUNTRACED)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}", "w") as f:
            f.write("0 0 65536")
    os.kill(pid, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_refused_without_user_namespaces(elsewhere):
    """As under RestrictNamespaces= of a unit."""
    box = Jailed(elsewhere)  # pytest's own folders are root's alone
    box.write_spec("echo never")
    for top, _, files in os.walk(box.base):
        for name in [top, *(os.path.join(top, f) for f in files)]:
            os.chown(name, 20001, 20001)
    made = []
    path = box.dir + "/spec.json"
    spec = json.load(open(path))
    for key, value in spec["cgroup"].items():
        if isinstance(value, str):
            made.append(os.path.join(value, "zr-user-" + box.id))
            os.mkdir(made[-1])
            os.chown(made[-1], 20001, 20001)
            spec["cgroup"][key] = made[-1]
    boxes.pass_controllers(spec["cgroup"])
    json.dump(spec, open(path, "w"))
    try:
        assert run_where_there_are_no_user_namespaces([boxes.KEEPER, box.dir], 20001) == 0
        assert box.result()["reason"] == "setup" and "may not make a user namespace (sysctl" in box.result()["detail"]
    finally:
        for group in made:
            os.rmdir(group)


def test_refused_unlimited(box):
    box.write_spec("echo never")
    path = box.dir + "/spec.json"
    spec = json.load(open(path))
    del spec["limits"]["memory_bytes"]
    json.dump(spec, open(path, "w"))
    subprocess.run([boxes.KEEPER, box.dir], stdin=subprocess.DEVNULL, check=True, timeout=20)
    assert box.result()["reason"] == "setup" and "must limit memory, pids and disk" in box.result()["detail"]


# --- from the submission to its scores ---

JUDGE = """#!/bin/sh
case $ZR_PHASE in
run) cat "$ZR_SUBMISSION/answer" "$ZR_EVALUATOR/key" >"$ZR_OUTPUT/copy"; test "$(id -u)" -gt 1000000 && test ! -e /var ;;
score) printf '{"right": %s}' "$(cmp -s "$ZR_RUN_OUTPUT/copy" "$ZR_EVALUATOR/key" && echo true || echo false)" >"$ZR_OUTPUT/scores.json" ;;
esac
"""


def test_through_a_worker(sandbox):
    """The evaluator asks for the level; the submission is as a fetcher leaves it, its owner's alone."""
    sandbox.prepare()
    sandbox.evaluator("judge", JUDGE, conf='isolation = sandbox\nrun = run.sh\nscore = run.sh\nreference = {"key"}\n')
    with open(os.path.join(sandbox.bin, "judge/key"), "w") as f:
        f.write("42")
    sandbox.eval_worker()
    sandbox.update_worker()
    sandbox.zr("challenges:add", "c", "--evaluator", "judge")
    for answer in ("42", "41"):
        path = os.path.dirname(sandbox.file(f"sub-{answer}/answer", answer))
        ident = sandbox.zr_id("submissions:create", "c", path, "--author", "ada")
        done = sandbox.wait_evaluation(sandbox.zr_id("submissions:eval", ident), "completed", "failed")
        assert (done["reason"], done["scores"]) == ("ok", {"right": answer == "42"})
        isolation = sandbox.evaluation(done["id"])["attempts"][-1]["isolation"]
        assert isolation["level"] == "sandbox" and isolation["network"] == "none"
        assert sandbox.evaluation(done["id"])["attempts"][-1]["violations"]["calls_total"] == 0
    assert "key: Permission denied" in sandbox.zr("evaluations:logs", done["id"]).stdout


@TWO
def test_timing_through_a_worker(sandbox):
    sandbox.prepare().setting("timing_cpus", "1")
    sandbox.evaluator("timed", "#!/bin/sh\necho '{\"took_ms\": 90000}' >$ZR_OUTPUT/scores.json\n",
                      conf='isolation = sandbox\nrun = run.sh\ntiming = yes\nclaimed_time = took_ms\n')
    sandbox.eval_worker()
    sandbox.update_worker()
    sandbox.zr("challenges:add", "c", "--evaluator", "timed")
    path = os.path.dirname(sandbox.file("sub/answer", "x"))
    ident = sandbox.zr_id("submissions:eval", sandbox.zr_id("submissions:create", "c", path, "--author", "ada"))
    assert sandbox.wait_evaluation(ident, "completed", "failed")["reason"] == "ok"
    c = sandbox.evaluation(ident)["attempts"][-1]["conditions"]
    assert c["timing"]["cpus"] == "1" and c["clock"]["claimed_usec"] == 90000000 and c["clock"]["contradiction"]
    assert "claims 90.000 s, run took" in sandbox.zr("evaluations:show", ident).stdout


def test_violations_through_a_worker(sandbox):
    """As an event while it runs, and as the end."""
    sandbox.prepare()
    sandbox.evaluator("spy", "#!/bin/sh\nunshare -U true\nsleep 60\n", conf='isolation = sandbox\nrun = run.sh\non_violation = stop\n')
    sandbox.eval_worker()
    sandbox.update_worker()
    sandbox.zr("challenges:add", "c", "--evaluator", "spy")
    path = os.path.dirname(sandbox.file("sub/answer", "x"))
    ident = sandbox.zr_id("submissions:eval", sandbox.zr_id("submissions:create", "c", path, "--author", "ada"))
    done = sandbox.wait_evaluation(ident, "completed", "failed")
    assert done["status"] == "failed" and done["reason"] == "violation"
    shown = sandbox.evaluation(ident)["attempts"]
    assert len(shown) == 1 and shown[0]["violations"]["calls"] == {"unshare": 1}
    assert "did what it may not do" in sandbox.zr("evaluations:why", ident).stdout
    assert "unshare" in sandbox.zr("evaluations:show", ident).stdout


def test_one_keeper_for_many(sandbox):
    """A keeper that is root goes on after a sandbox, whatever the level of the next job."""
    sandbox.prepare()
    say = "#!/bin/sh\npwd; ls -A; cd $TMPDIR && pwd; id -u; test -d $ZR_SUBMISSION && echo x >$ZR_OUTPUT/x && echo $PPID\n"
    sandbox.evaluator("walled", say, conf="isolation = sandbox\nrun = run.sh\n")
    sandbox.evaluator("open", say, conf="isolation = none\nrun = run.sh\n")
    sandbox.eval_worker("-w", "1", "--prefetch-count", "1")
    sandbox.update_worker()
    logs = []
    path = os.path.dirname(sandbox.file("sub/answer", "x"))
    for evaluator in ("open", "walled", "open", "walled"):
        challenge = f"c{len(logs)}"
        sandbox.zr("challenges:add", challenge, "--evaluator", evaluator)
        ident = sandbox.zr_id("submissions:create", challenge, path, "--author", "ada")
        done = sandbox.wait_evaluation(sandbox.zr_id("submissions:eval", ident), "completed", "failed")
        assert done["reason"] == "ok", done
        logs.append(sandbox.zr("evaluations:logs", done["id"]).stdout.split())
    assert logs[1] == logs[3] and logs[1][:2] == ["/box", "/tmp"]  # the same uid: the same keeper
    assert logs[0][2:] == logs[2][2:] == ["0", str(int(logs[1][2]) - 0x70000000)]
    assert all(log[0].startswith(sandbox.state) and log[0].endswith("/work") and log[1].endswith("/tmp") for log in (logs[0], logs[2]))


def test_canceled_before_it_was_seen_to_begin(box):
    """The time of a job that did not have any is none, not less."""
    slow = ("strace", "-f", "-o", "/dev/null", "-e", "trace=pivot_root", "-e", "inject=pivot_root:delay_enter=1000000")
    box.start("exec sleep 60", wrapper=slow, term_grace_usec=2000000)
    wait_for(lambda: len(boxes.descendants(box.process.pid)) > 1, 10, "init")
    box.say(t="cancel")
    r = box.wait()
    assert r["reason"] == "canceled" and 0 <= r["usage"]["wall_usec"] < 20000000, r
