# SPDX-License-Identifier: MIT
"""zr-box alone, with real scripts: how jobs end, what they see, what they leave behind."""
import ctypes
import json
import os
import signal
import subprocess
import time

import pytest

from lib import boxes, sealed
from lib.boxes import Box, alive, not_renewed, now
from lib.wait import wait_for

GROUPS = boxes.groups()
V2 = pytest.param(GROUPS, id="cgroup", marks=pytest.mark.skipif(not GROUPS, reason="no writable cgroup v2"))
BARE = pytest.param({}, id="bare")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces of its own")
# A world of its own for what would hurt this one: its processes cannot see or signal ours.
OWN_WORLD = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")


@pytest.fixture(params=[V2, BARE])
def box(request, tmp_path):
    b = Box(tmp_path, request.param)
    yield b
    b.stop()


@pytest.fixture
def grouped(tmp_path):
    if not GROUPS:
        pytest.skip("no writable cgroup v2")
    b = Box(tmp_path, GROUPS)
    yield b
    b.stop()


def memory_peak(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0


def messages(sock, until="end"):
    """What the keeper tells, up to a type of message or the hang-up."""
    data, told = b"", []
    while True:
        piece = sock.recv(65536)
        data += piece
        *lines, data = data.split(b"\n")
        told += [json.loads(line) for line in lines]
        if not piece or any(m["t"] == until for m in told):
            return told


def ask_cancel(box):
    with box.connect() as s:
        s.sendall(b'{"t":"cancel"}\n')
        return messages(s)


# --- how it ends ---

def test_ok(box):
    r = box.run('echo out; echo err >&2; echo "$#:$1" >$ZR_OUTPUT/args; echo \'{"a":{"b":1.5},"ok":true,"n":"x"}\' >$ZR_OUTPUT/scores.json')
    assert (r["reason"], r["exit_code"], r["signal"], r["phase"]) == ("ok", 0, None, "run")
    assert r["scores"] == {"a": {"b": 1.5}, "ok": True, "n": "x"} and r["scores_error"] is None
    assert r["log"] == {"out_bytes": 4, "err_bytes": 4, "truncated": False}
    assert r["usage"]["wall_usec"] > 0 and r["started_at"] < r["finished_at"]
    assert box.read("out.log") == b"out\n" and box.read("err.log") == b"err\n"
    assert r["isolation"]["level"] == "none" and {m["what"] for m in r["isolation"]["missing"]} >= {"filesystem", "network"}
    assert not box.cgroup_dirs()

    manifest = json.load(open(os.path.join(box.sealed, "manifest.json")))
    files = {f["path"] for f in manifest["entries"] if f.get("type", "file") == "file"}
    assert files == {".zr/out.log", ".zr/err.log", "args", "scores.json"}
    assert r["root_hash"].startswith("sha256:") and r["result_bytes"] == os.stat(box.sealed + "/result.tar.zst").st_size
    tar = subprocess.run(["tar", "--zstd", "-xOf", box.sealed + "/result.tar.zst", "args"], capture_output=True, check=True)
    assert tar.stdout.decode() == f"1:{box.submission}\n"


@pytest.mark.parametrize("script, detail", [
    ("exit 0", None), ("rmdir $ZR_OUTPUT", "the output folder is no folder any more"),
    ("rmdir $ZR_OUTPUT; ln -s /etc $ZR_OUTPUT", "the output folder is no folder any more"),
])
def test_nothing_to_seal(box, script, detail):
    r = box.run(script, scores_file=None)
    assert (r["reason"], r["detail"]) == ("exit" if detail else "ok", detail)
    assert (r["root_hash"], r["result_bytes"]) == (sealed.EMPTY, 0) and not os.path.exists(box.sealed)


@pytest.mark.parametrize("script", ["echo x", "echo x >&2", ": >$ZR_OUTPUT/f", "mkdir $ZR_OUTPUT/d", "ln -s x $ZR_OUTPUT/l",
                                    "mkdir $ZR_OUTPUT/.zr; : >$ZR_OUTPUT/.zr/out.log"])
def test_little_to_seal(box, script):
    r = box.run(script, scores_file=None)
    assert r["root_hash"] != sealed.EMPTY and r["result_bytes"] == os.stat(box.sealed + "/result.tar.zst").st_size


@pytest.mark.parametrize("status", [1, 42, 126, 127, 137, 255])
def test_exit_status(box, status):
    r = box.run(f"exit {status}")
    assert (r["reason"], r["exit_code"], r["signal"]) == ("exit", status, None)
    assert r["detail"] == f"run exited with status {status}"
    assert r["root_hash"]  # a failure's files and logs are collected too


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM", "ABRT"])
def test_signal(box, name):
    r = box.run(f"kill -{name} $$; sleep 5")
    assert (r["reason"], r["exit_code"], r["signal"]) == ("signal", None, int(getattr(signal, "SIG" + name)))
    assert not [f for f in os.listdir(box.dir) if f.startswith("core")]


def test_setup_failures(box, tmp_path):
    plain = box.script("echo hi", mode=0o644)
    r = box.run(plain)
    assert (r["reason"], r["started_at"], r["root_hash"]) == ("setup", None, None)
    assert r["detail"] == f"run: cannot execute {plain}: Permission denied"


@pytest.mark.parametrize("text,say", [
    ("#!/no/such/interpreter -x\n", "its interpreter '/no/such/interpreter': No such file or directory"),
    ("#!/etc/passwd\n", "its interpreter '/etc/passwd': Permission denied"),
    ("#! \n", "cannot execute"),
])
def test_bad_interpreter(box, text, say):
    r = box.run(text)
    assert r["reason"] == "setup" and say in r["detail"]


def test_no_program(box):
    path = box.script("#!")
    with open(path, "w") as f:
        f.write("no magic\n")
    r = box.run(path)
    assert r["reason"] == "setup" and "neither a program nor does it start with #!" in r["detail"]
    other = Box(box.base, box.groups)
    r = other.run("/no/such/file")
    assert r["reason"] == "setup" and r["detail"] == "run: cannot execute /no/such/file: No such file or directory"


def test_arguments_too_long(box):
    box.write_spec("exit 0")
    path = box.dir + "/spec.json"
    spec = json.load(open(path))
    spec["phases"][0]["argv"] += ["x" * 131000] * 24
    json.dump(spec, open(path, "w"))
    subprocess.run([boxes.KEEPER, box.dir], stdin=subprocess.DEVNULL, check=True, timeout=20)
    r = box.result()
    assert r["reason"] == "setup" and "Argument list too long" in r["detail"]


def test_phases(box):
    r = box.run(prepare='echo p >$TMPDIR/../work/made; echo $ZR_PHASE', run='cat made; echo $ZR_PHASE >$ZR_OUTPUT/r',
                score='test -e $ZR_OUTPUT/r && echo \'{"s":1}\' >$ZR_OUTPUT/scores.json; echo $ZR_PHASE')
    assert (r["reason"], r["phase"], r["scores"]) == ("ok", "score", {"s": 1})
    assert box.read("out.log") == b"prepare\np\nscore\n"
    assert [(j["t"], j.get("phase")) for j in box.journal()] == [("begun", None), ("started", "prepare"), ("phase", "run"),
                                                                   ("phase", "score"), ("done", None)]
    assert "reference" in {m["what"] for m in r["isolation"]["missing"]}


def test_phase_after_leftovers(box):
    r = box.run(prepare="sleep 1000 & exit 0", run="echo ran")
    assert r["reason"] == "ok" and box.read("out.log") == b"ran\n"


def test_failed_phase_is_the_last(box):
    r = box.run(prepare="sleep 1000 & exit 3", run="echo never", score="echo never")
    assert (r["reason"], r["exit_code"], r["phase"], r["detail"]) == ("exit", 3, "prepare", "prepare exited with status 3")
    assert not os.path.exists(box.dir + "/out.log")


def test_runs_once(box):
    box.run("exit 0")
    again = subprocess.run([boxes.KEEPER, box.dir], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert again.returncode == 2 and "has run already" in again.stderr


def test_groups_that_cannot_be_made(tmp_path):
    """Said in the result, and the keeper still cleans up behind itself."""
    box = Box(tmp_path, {"v2": str(tmp_path / "none")})
    r = box.run("echo never")
    assert r["reason"] == "infrastructure" and r["detail"] == f"open {tmp_path}/none: No such file or directory"
    assert box.process.returncode == 0 and not box.has("work") and not box.has("output")


@pytest.mark.parametrize("args", [[], ["-x"], ["/no/such/folder"], ["/tmp"]])
def test_wrong_call(args):
    r = subprocess.run([boxes.KEEPER, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert r.returncode in (1, 2) and r.stderr.count("\n") == 1


@pytest.mark.needs("cgroup1")
def test_hold_wants_version_2():
    r = subprocess.run([boxes.KEEPER, "--hold"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert r.returncode == 1 and "cgroup version 2" in r.stderr
    assert not os.path.exists("/sys/fs/cgroup/holder")


# --- scores ---

def test_scores_missing(box):
    r = box.run("exit 0")
    assert (r["reason"], r["scores"], r["scores_error"]) == ("ok", None, "scores.json: the file is missing")


def test_scores_required(box):
    r = box.run("exit 0", scores_required=True)
    assert (r["reason"], r["exit_code"], r["detail"]) == ("exit", 0, "scores.json: the file is missing")


@pytest.mark.parametrize("make,say", [
    ("echo '[1]'", "it is not an object"),
    ("echo '{\"a\":NaN}'", "JSON, line 1"),
    ("echo '{\"a\":1e999}'", "JSON, line 1"),
    ("echo '{\"a\":null}'", "'a' is neither a number"),
    ("echo '{\"a\":[1]}'", "'a' is neither a number"),
    ("echo '{\"a\":1,\"a\":2}'", "duplicate object key"),
    ("echo '{\"a\":1'", "JSON, line"),
    ("printf '{\"a\":\"\\xff\"}'", "JSON, line"),
    ("python3 -c 'print(\"{\\\"a\\\":\"*9+\"1\"+\"}\"*9)'", "nested more than 8 deep"),
    ("python3 -c 'import json; print(json.dumps({str(i): 1 for i in range(1001)}))'", "more than 1000 members"),
    ("head -c 100000000 /dev/zero", "it has 100000000 bytes"),
    ("true", "JSON, line 1"),
])
def test_scores_bad(box, make, say):
    r = box.run(make.replace("python3", "/usr/bin/python3") + " >$ZR_OUTPUT/scores.json; exit 0")
    assert (r["reason"], r["exit_code"], r["scores"]) == ("exit", 0, None)
    assert r["detail"].startswith("scores.json: ") and say in r["detail"] and r["scores_error"] == r["detail"]


@pytest.mark.parametrize("make,say", [
    ("ln -s /etc/passwd $ZR_OUTPUT/scores.json", "it is a symbolic link"),
    ("mkfifo $ZR_OUTPUT/scores.json", "it is not a regular file"),
    ("mkdir $ZR_OUTPUT/scores.json", "it is not a regular file"),
    ("mkdir o; echo {} >o/scores.json; rmdir $ZR_OUTPUT; ln -s work/o $ZR_OUTPUT", "scores.json: "),
])
def test_scores_no_file(box, make, say):
    r = box.run(make)
    assert (r["reason"], r["scores"]) == ("exit", None) and say in r["detail"]


def test_output_is_no_folder(box):
    r = box.run("rmdir $ZR_OUTPUT; ln -s /etc $ZR_OUTPUT; echo said", scores_file=None)
    assert (r["reason"], r["detail"]) == ("exit", "the output folder is no folder any more")
    names = subprocess.run(["tar", "--zstd", "-tf", box.sealed + "/result.tar.zst"], capture_output=True, text=True, check=True).stdout
    assert set(names.split()) == {".zr", ".zr/out.log"}


def test_scores_only_of_good_runs(box):
    r = box.run("echo '{\"a\":1}' >$ZR_OUTPUT/scores.json; exit 1")
    assert (r["reason"], r["scores"]) == ("exit", None)


# --- what it sees ---

def test_environment(box):
    r = box.run("env -0", env={"AMQP_URL": "canary", "PATH": "/evil"})
    assert r["reason"] == "ok"
    seen = dict(line.split("=", 1) for line in box.read("out.log").decode().split("\0") if line)
    for made_by_bash in ("PWD", "SHLVL", "_", "OLDPWD"):
        seen.pop(made_by_bash, None)
    assert seen == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": box.dir + "/work", "TMPDIR": box.dir + "/tmp",
        "ZR_SUBMISSION": box.submission, "ZR_OUTPUT": box.dir + "/output", "ZR_PROGRESS_FD": "3", "ZR_EVALUATION_ID": "42",
        "ZR_ATTEMPT": "1", "ZR_ATTEMPT_ID": box.id, "ZR_EVALUATOR": box.evaluator, "ZR_PHASE": "run"}


def test_evaluator_environment(box):
    box.write_spec("exit 0")
    path = box.dir + "/spec.json"
    spec = json.load(open(path))
    spec["env"] = ["PATH=/opt/bin:/bin:/usr/bin", "MINE=a b=c", "ZR_OUTPUT=/etc"]
    spec["phases"][0]["argv"] = ["/usr/bin/env", "-0"]
    json.dump(spec, open(path, "w"))
    subprocess.run([boxes.KEEPER, box.dir], stdin=subprocess.DEVNULL, check=True, timeout=20)
    seen = dict(line.split("=", 1) for line in box.read("out.log").decode().split("\0") if line)
    assert seen["PATH"] == "/opt/bin:/bin:/usr/bin" and seen["MINE"] == "a b=c"


def test_no_secret_anywhere(box):
    """Neither its own environment nor that of any process it may read has the starter's."""
    r = box.run("cat /proc/self/environ /proc/$PPID/environ /proc/$PPID/cmdline 2>&1 | tr '\\0' '\\n'", env={"AMQP_URL": "canary-5fe1"})
    assert r["reason"] == "ok" and b"canary" not in box.read("out.log")


def test_descriptors(box):
    r = box.run("exec /bin/ls -l /proc/self/fd")
    assert r["reason"] == "ok"
    links = [line.split()[-3:] for line in box.read("out.log").decode().splitlines() if "->" in line]
    fds = {int(a): b for a, _, b in links}
    assert fds[0] == "/dev/null" and all(fds[i].startswith("pipe:") for i in (1, 2, 3))
    assert set(fds) - {4} == {0, 1, 2, 3} and fds[4].startswith("/proc/")


@pytest.fixture
def ignored_internal_signal():
    """Signal 32 is the C library's own; whoever started us may have left it ignored."""
    number = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)

    def handler(value):
        assert libc.syscall(number, 32, (ctypes.c_ulong * 4)(value), None, ctypes.c_size_t(8)) == 0
    handler(1)
    yield
    handler(0)


def test_process_state(box, ignored_internal_signal):
    r = box.run("grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status; ulimit -Hc; ulimit -Sn; cat /proc/self/oom_score_adj; "
                "ps -o sid= -p $$ | tr -d ' ' >sid; echo $$ >pid; cmp sid pid && pwd; umask")
    lines = box.read("out.log").decode().split("\n")
    assert r["reason"] == "ok"
    assert lines[0] == "SigBlk:\t0000000000000000" and lines[1] == "SigIgn:\t0000000000000000"
    assert lines[3] == "0" or int(lines[3]) <= 1  # in blocks: 1 byte rounds down
    assert int(lines[4]) <= 1024 and lines[5] == "1000" and lines[6] == box.dir + "/work" and lines[7] == "0022"


# --- limits ---

@pytest.mark.parametrize("how", boxes.LONG_RUNS)
def test_wall_limit(box, how):
    boxes.check_wall_limit(box, boxes.LONG_RUNS[how])


def test_wall_limit_says_goodbye(box):
    r = box.run("trap 'echo bye; exit 0' TERM; sleep 30 & wait", limits={"wall_usec": 300000 * boxes.LONGER}, term_grace_usec=5000000)
    assert (r["reason"], r["exit_code"]) == ("wall-limit", 0) and box.read("out.log") == b"bye\n"


def test_phase_limits_are_apart(box):
    r = box.run(prepare="sleep 30", run="exit 0", limits={"prepare_wall_usec": 300000})
    assert (r["reason"], r["phase"]) == ("wall-limit", "prepare")
    r = Box(box.base, box.groups).run(prepare=f"sleep {0.6 * boxes.LONGER}", run="sleep 0.1", limits={"wall_usec": 500000 * boxes.LONGER})
    assert r["reason"] == "ok" and r["usage"]["wall_usec"] > 700000


def test_cpu_limit(box):
    r = box.run("(while :; do :; done) & while :; do :; done", limits={"cpu_usec": 1000000, "wall_usec": 15000000})
    if not box.groups:  # per process there
        assert r["reason"] == "cpu-limit" and "cpu.stat" in {m["what"] for m in r["isolation"]["missing"]}
        return
    assert r["reason"] == "cpu-limit" and 1000000 <= r["usage"]["cpu_usec"] < 1300000


def test_cpu_is_counted(box):
    r = box.run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    assert r["reason"] == "ok" and 50000 < r["usage"]["cpu_usec"] <= r["usage"]["wall_usec"] + 50000


HOG = "/usr/bin/python3 -c \"x=bytearray(300<<20)\""


@pytest.mark.parametrize("script", [f"exec {HOG}", f"{HOG}; exit 0"], ids=["leader", "child"])
def test_memory(grouped, script):
    if not {"v1_memory", "v2_memory"} & set(grouped.groups):
        pytest.skip("no memory controller")
    r = grouped.run(script, limits={"memory_bytes": 64 << 20})
    assert r["reason"] == "memory" and r["detail"] == "run needs more memory than 64.0 MiB"
    assert (60 << 20) < r["usage"]["memory_peak_bytes"] <= 64 << 20


def test_memory_without_groups(tmp_path):
    r = Box(tmp_path, {}).run(f"exec {HOG}", limits={"memory_bytes": 64 << 20})
    assert r["reason"] == "exit" and "cgroup.memory" in {m["what"] for m in r["isolation"]["missing"]}


def test_pids(grouped):
    if not {"v1_pids", "v2_pids"} & set(grouped.groups):
        pytest.skip("no pids controller")
    r = grouped.run("for i in $(seq 40); do sleep 30 & done; wait", limits={"pids": 20})
    assert r["reason"] == "pids" and r["detail"] == "run needs more than 20 processes"


def test_one_large_file(box):
    r = box.run("exec head -c 100000000 /dev/zero >big", limits={"disk_bytes": 10 << 20})
    assert (r["reason"], r["signal"]) == ("disk", int(signal.SIGXFSZ))


def test_many_files(box):
    t = time.monotonic()
    r = box.run("mkdir -p $TMPDIR/d; for i in $(seq 40); do head -c 1000000 /dev/zero >$TMPDIR/d/$i; done; sleep 30",
                limits={"disk_bytes": 10 << 20})
    assert r["reason"] == "disk" and "uses more than 10.0 MiB of disk" in r["detail"] and time.monotonic() - t < 10


def test_disk_is_looked_at_after_the_end_too(box):
    r = box.run("for i in $(seq 20); do head -c 1000000 /dev/zero >$i; done", limits={"disk_bytes": 10 << 20})
    assert r["reason"] == "disk"


def test_output_limit(box):
    r = box.run("echo small >$ZR_OUTPUT/a; head -c 5000000 /dev/urandom >$ZR_OUTPUT/b; echo log", limits={"output_bytes": 1 << 20})
    assert r["reason"] == "output-limit" and r["root_hash"]
    names = subprocess.run(["tar", "--zstd", "-tf", box.sealed + "/result.tar.zst"], capture_output=True, text=True, check=True).stdout
    assert ".zr/out.log" in names and "a\n" in names and "b\n" not in names


# --- output ---

def test_a_gigabyte_of_output(box):
    size = 1000000000 // boxes.SLOW
    box.start(f"printf 'the very start'; head -c {size} /dev/zero; printf 'the very end'")
    largest = 0
    while box.process.poll() is None:
        largest = max(largest, sum(os.lstat(os.path.join(box.dir, f)).st_size for f in ("out.log", "err.log") if box.has(f)))
        assert memory_peak(box.process.pid) < (8 << 20 if "asan" not in boxes.KEEPER else 200 << 20)
        time.sleep(0.01)
    r = box.result()
    total = 14 + size + 12
    assert r["reason"] == "ok" and r["log"] == {"out_bytes": total, "err_bytes": 0, "truncated": True}
    assert largest < 65536 + 100
    log = box.read("out.log")
    head, tail = 65536 - 16384, 16384
    marker = f"\n[zr: {total - 65536} bytes left out]\n".encode()
    assert log == (b"the very start".ljust(head, b"\0") + marker + b"the very end".rjust(tail, b"\0"))


def test_output_may_stop_the_job(box):
    r = box.run("yes", log_stop=True)
    assert r["reason"] == "output-limit" and r["detail"] == "more than 65536 bytes on standard output"


def test_closed_output(box):
    r = box.run("exec 1>&- 2>&- 3>&-; sleep 0.3; touch $ZR_OUTPUT/done")
    assert r["reason"] == "ok" and r["usage"]["wall_usec"] > 300000


# --- leftovers ---

def test_grandchild_of_its_own_session(box):
    r = box.run(f"(setsid bash -c 'trap \"\" TERM HUP; echo $$ >{box.base}/pid; exec sleep 1000' </dev/null >/dev/null 2>&1 3>&- &) ; "
                f"while ! [ -s {box.base}/pid ]; do sleep 0.01; done")
    assert r["reason"] == "ok" and r["isolation"]["end"]["leftovers"] >= 1
    assert not alive(box.pid("pid"))


def test_grandchild_holds_the_output(box):
    t = time.monotonic()
    r = box.run(f"sleep 1000 & echo $! >{box.base}/pid; echo said")
    assert r["reason"] == "ok" and time.monotonic() - t < 2
    assert not alive(box.pid("pid")) and box.read("out.log") == b"said\n"


STORM = f"""#!/usr/bin/python3
import os, signal, sys, time
for s in range(1, 32):
    try: signal.signal(s, signal.SIG_IGN)
    except OSError: pass
end = time.time() + 20
for i in range({60 // boxes.SLOW}):
    if os.fork() == 0:
        os.setsid()
        while time.time() < end:
            if os.fork():
                os._exit(0)
            os.setsid()
time.sleep(0.5)
"""


@ROOT
def test_fork_storm(box):
    r = box.run(STORM, wrapper=OWN_WORLD, limits={"wall_usec": 15000000})
    assert r["reason"] == "ok", r
    assert not box.cgroup_dirs()


@ROOT
def test_kills_everything_it_can(box):
    r = box.run("kill -9 -1; kill -9 $PPID; echo still here", wrapper=OWN_WORLD)
    if "landlock.scope" in r["isolation"]["mechanisms"]:
        assert r["reason"] == "ok" and box.read("out.log") == b"still here\n"


# --- from outside ---

def test_cancel(box):
    box.start(f"trap 'echo bye; exit 7' TERM; echo $$ >{box.base}/pid; sleep 1000 & wait", term_grace_usec=5000000)
    box.pid("pid")
    told = ask_cancel(box)
    assert told[-1] == {"t": "end", "spare": True, "ready": True}
    r = box.wait()
    assert (r["reason"], r["exit_code"], r["detail"]) == ("canceled", 7, "canceled on request")
    assert box.read("out.log") == b"bye\n" and r["root_hash"]


def test_cancel_what_ignores_it(box):
    box.start(f"trap '' TERM; (trap '' TERM; setsid sleep 1000) & echo $! >{box.base}/pid; while :; do sleep 0.1; done")
    box.pid("pid")
    t = time.monotonic()
    ask_cancel(box)
    r = box.wait()
    assert (r["reason"], r["signal"]) == ("canceled", 9) and 0.3 <= time.monotonic() - t < 2


def test_keeper_told_to_end(box):
    box.start(f"echo $$ >{box.base}/pid; exec sleep 1000")
    pid = box.pid("pid")
    box.process.terminate()
    r = box.wait()
    assert r["reason"] == "infrastructure" and not alive(pid)


@pytest.mark.parametrize("trap", ["", "trap 'exit 3' TERM; "])
def test_keeper_and_job_told_to_end(box, trap):
    """As a service manager stops a service: the job first, this time."""
    box.start(f"{trap}echo $$ >{box.base}/pid; while :; do sleep 0.01; done")
    os.kill(box.pid("pid"), signal.SIGTERM)
    box.process.terminate()
    assert box.wait()["reason"] == "infrastructure"


def test_keeper_killed(box):
    box.start(f"echo $$ >{box.base}/pid; exec sleep 1000")
    pid = box.pid("pid")
    box.wait_journal("started")
    box.process.kill()
    box.process.wait()
    wait_dead(pid)
    assert [j["t"] for j in box.journal()] == ["begun", "started"]
    wait_for(box.remove_groups, 10, "its groups to be empty")


def test_progress(box):
    os.mkfifo(box.submission + "/go")
    box.start("read -r <$ZR_SUBMISSION/go; echo Test 1 of 4; echo garbage >&3; echo '{\"done\":2,\"total\":4,\"text\":\"two\"}' >&3; "
              "sleep 0.7; for i in $(seq 1000); do echo \"{\\\"fraction\\\":0.$((i % 10))}\" >&3; done; echo Test 4 of 4; sleep 0.6; printf 'Test 3 of 3'")
    with box.connect() as s:
        open(box.submission + "/go", "w").close()
        told = messages(s)
    assert box.wait()["reason"] == "ok"
    progress = [m["progress"] for m in told if m["t"] == "progress"]
    assert told[0]["t"] == "started" and (told[0]["phase"], told[0]["isolation"]["level"]) == ("run", "none")
    assert {"fraction": 0.5, "done": 2, "total": 4, "text": "two"} in progress
    assert progress[-1] == {"fraction": 1.0, "done": 3, "total": 3, "text": "Test 3 of 3"}
    assert len(progress) <= 7 * boxes.LONGER
    assert [m for m in told if m["t"] == "log"][-1]["out"] == len(box.read("out.log"))


def test_late_and_slow_listeners(box):
    """One that never reads, one that comes late: neither keeps the job from ending."""
    box.start("for i in $(seq 3000); do echo Test $i of 3000; echo \"{\\\"done\\\":$i,\\\"total\\\":3000}\" >&3; done; sleep 0.5; touch $ZR_OUTPUT/x; sleep 1")
    deaf = box.connect()
    with box.connect() as s:
        s.sendall(b"nonsense\n{}\n[1]\n" + b"x" * 100 + b"\n")
        told = messages(s)
    assert box.wait()["reason"] == "ok"
    assert told[0]["t"] == "started" and [m for m in told if m["t"] == "progress"][-1]["progress"]["done"] == 3000
    deaf.close()


def test_too_many_listeners(box):
    box.start(f"echo $$ >{box.base}/pid; sleep 1")
    socks = [box.connect() for _ in range(12)]
    assert box.wait()["reason"] == "ok"
    for s in socks:
        s.close()


# --- the lease: what is not renewed is over before others begin ---

LOOP = "while :; do sleep 0.05; done"


def wait_dead(*pids):
    while any(alive(p) for p in pids):
        time.sleep(0.002)
    return now()


def lost(r, span):
    return (r["reason"], r["detail"]) == ("lost", not_renewed(span))


def test_lease_ends(box):
    end = now() + 2000000
    box.start(f"trap 'echo bye; exit 7' TERM; echo $$ >{box.base}/pid; {LOOP}", lease_usec=2000000, term_grace_usec=60000000)
    assert wait_dead(box.pid("pid")) < end
    r = box.wait()
    assert lost(r, "2s") and r["exit_code"] == 7 and 1000000 < r["usage"]["wall_usec"] < 1800000
    assert box.read("out.log") == b"bye\n" and r["root_hash"] and not box.cgroup_dirs()


def test_lease_ends_for_what_ignores_it(box):
    """Also the grace that a job has is over before the lease."""
    end = now() + 3000000
    box.start(f"trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >{box.base}/child; {LOOP}' & echo $$ >{box.base}/pid; {LOOP}",
              lease_usec=3000000, term_grace_usec=60000000)
    assert wait_dead(box.pid("pid"), box.pid("child")) < end
    r = box.wait()
    assert lost(r, "3s") and r["signal"] == 9


def test_lease_ends_while_it_is_canceled(box):
    """The reason is the first one; the grace is not longer for it."""
    box.start(f"trap 'echo canceled >{box.base}/told' TERM; echo $$ >{box.base}/pid; {LOOP}", lease_usec=60000000,
              term_grace_usec=60000000)
    pid = box.pid("pid")
    box.say(t="cancel")
    assert box.file("told") == "canceled"
    end = now() + 2000000
    box.say(t="lease", usec=2000000, at=now())
    assert wait_dead(pid) < end
    assert box.wait()["reason"] == "canceled"


def test_lease_is_renewed(box):
    """In the moment in which it was cut down to one that would end before the job does."""
    os.mkfifo(box.submission + "/go")
    box.start("read -r <$ZR_SUBMISSION/go", lease_usec=60000000)
    end = now() + 1000000
    box.say({"t": "lease", "usec": 1000000}, *({"t": "lease", "usec": bad} for bad in (0, -1, 604800000001, "5", None)),
            t="lease", usec=60000000)
    wait_for(lambda: now() > end + 100000 or not alive(box.process.pid), 10, "the first lease to be over")
    box.go()
    assert box.wait()["reason"] == "ok"


def test_lease_is_moved(box):
    """To now + N, be that later or sooner; also where there was none."""
    box.start(f"echo $$ >{box.base}/pid; exec sleep 1000")
    pid = box.pid("pid")
    for usec in (604800000000, 1500000):
        box.say(t="lease", usec=usec)
    assert wait_dead(pid) < now() + 1500000
    assert lost(box.wait(), "7d")


def test_lease_of_bad_renewals(box):
    box.start(f"echo $$ >{box.base}/pid; exec sleep 1000", lease_usec=1500000)
    box.pid("pid")
    for bad in (0, -1, 604800000001, "5", None, 1.5):
        box.say(t="lease", usec=bad)
    box.say(t="lease")
    box.say(t="lease", usec=60000000, at="soon")
    assert lost(box.wait(), "1500ms")


def test_lease_ends_between_phases(box):
    """`prepare` has ended by itself: `run` is not begun."""
    os.mkfifo(box.submission + "/go")
    box.start(prepare=f"(sleep 1.5; echo >{box.base}/later) & echo $$ >{box.base}/pid; read -r <$ZR_SUBMISSION/go", run="echo never",
              lease_usec=1000000)
    pid = box.pid("pid")
    box.stop_keeper()
    with open(box.submission + "/go", "w") as f:
        f.write("\n")
    wait_dead(pid)
    box.file("later")
    box.process.send_signal(signal.SIGCONT)
    r = box.wait()
    assert lost(r, "1s") and (r["phase"], r["exit_code"]) == ("prepare", 0) and not box.has("out.log")


LATER = "echo $$ >{0}/pid; sleep 1.5; echo >{0}/later; {1}"


def test_stopped_keeper_finds_its_lease_over(box):
    """As after a suspend: no renewal that comes now counts, whoever sends it."""
    box.start(LATER.format(box.base, "exec sleep 1000"), lease_usec=1000000)
    pid = box.pid("pid")
    box.stop_keeper()
    box.file("later")
    box.say(t="lease", usec=60000000)
    box.say(t="lease", usec=60000000, at=now())
    box.process.send_signal(signal.SIGCONT)
    t = time.monotonic()
    r = box.wait()
    assert lost(r, "1s") and not alive(pid) and time.monotonic() - t < 1


def test_stopped_keeper_finds_renewals_that_were_in_time(box):
    os.mkfifo(box.submission + "/go")
    box.start(LATER.format(box.base, "read -r <$ZR_SUBMISSION/go"), lease_usec=1000000)
    with box.connect() as s:
        messages(s, "started")
        box.stop_keeper()
        for usec in (*[1000000] * 9, 60000000):  # more than is read at once
            s.sendall(b'{"t":"lease","usec":%d,"at":%d}\n' % (usec, now()))
        box.file("later")
        box.process.send_signal(signal.SIGCONT)
        with open(box.submission + "/go", "r+b", buffering=0) as f:
            f.write(b"\n")
            assert box.wait()["reason"] == "ok"


def test_old_renewal_is_worth_what_is_left_of_it(box):
    box.start(LATER.format(box.base, "exec sleep 1000"), lease_usec=10000000)
    pid, at = box.pid("pid"), now()
    box.file("later")
    box.say(t="lease", usec=1600000, at=at)
    assert wait_dead(pid) < now() + 1000000 and lost(box.wait(), "10s")


def test_stopped_keeper_finds_the_job_at_its_end(box):
    """What has ended keeps its outcome, however late somebody looks."""
    box.start(LATER.format(box.base, "exit 3"), lease_usec=1000000)
    pid = box.pid("pid")
    box.stop_keeper()
    wait_dead(pid)
    box.process.send_signal(signal.SIGCONT)
    r = box.wait()
    assert (r["reason"], r["exit_code"]) == ("exit", 3)


FREEZER = boxes._group("cgroup", "freezer")


@pytest.mark.needs("cgroup1")
def test_unkillable(grouped):
    """A process that SIGKILL does not end: the outcome is told, the keeper stays until it is gone."""
    box = grouped
    group = os.path.join(FREEZER, "zr-test-" + box.id)
    os.mkdir(group)
    try:
        box.start(f"sleep 1000 & echo $! >{box.base}/pid; exec sleep 1000", limits={"wall_usec": 1000000})
        pid = box.pid("pid")
        with open(group + "/cgroup.procs", "w") as f:
            f.write(str(pid))
        with open(group + "/freezer.state", "w") as f:
            f.write("FROZEN")
        with box.connect(30) as s:
            assert messages(s)[-1] == {"t": "end", "spare": False, "ready": False}
        r = box.result()
        assert r["reason"] == "infrastructure" and "unkillable" in r["detail"] and r["root_hash"] is None
        assert box.process.poll() is None and alive(pid)
    finally:
        with open(group + "/freezer.state", "w") as f:
            f.write("THAWED")
        box.process.wait(40)
        os.rmdir(group)
    assert not alive(pid) and not box.cgroup_dirs()


def test_what_a_caller_says_counts_though_he_does_not_listen(box):
    """He hangs up while the keeper, whose sending takes long, is about to tell him more."""
    slow = ("strace", "-o", "/dev/null", "-e", "trace=sendto", "-e", "inject=sendto:delay_enter=500000")
    box.start("exec sleep 60", prepare="true", wrapper=slow)
    wait_for(lambda: [r.get("phase") for r in box.journal()][-1:] == ["run"], 20, "the phase run")
    with box.connect() as s:
        assert b"started" in s.recv(1) + s.recv(4096)
        s.sendall(b'{"t":"kill"}\n')
    assert box.wait(20)["reason"] == "canceled"
