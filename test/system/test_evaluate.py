# SPDX-License-Identifier: MIT
"""zr evaluate: one evaluation in the foreground; no server, no database, no settings."""
import glob
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from lib import boxes
from lib.evaluation import BIN, EXAMPLES
from lib.fakegpu import FakeGpus, uuid
from lib.processes import alive, children, end_all, working_in
from lib.services import BUILD, ROOT
from lib.wait import wait_for

ZR = os.path.join(BUILD, "zr")
USER = 20003
GROUPS = boxes.groups()
LIMITED = {"v1_memory", "v2_memory"} & set(GROUPS) and {"v1_pids", "v2_pids"} & set(GROUPS)
needs_groups = pytest.mark.skipif(not LIMITED, reason="no memory and pids controllers")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sample(name):
    return os.path.join(EXAMPLES, name)


class Place:
    """A folder with a TMPDIR of its own, and control groups that its user owns. Not in pytest's, which is closed to others."""

    def __init__(self, user):
        self.uid = USER if user else os.geteuid()
        self.dir = tempfile.mkdtemp(prefix="zr-evaluate-test-", dir="/var/tmp")
        self.tmp = os.path.join(self.dir, "tmp")
        os.mkdir(self.tmp)
        self.conf = self.file("zr.conf", 'term_grace = "5s"\n')
        self.groups = [self._group(p) for p in sorted({p for p in GROUPS.values() if isinstance(p, str)})] if user else []
        for path in (self.dir, self.tmp):
            os.chown(path, self.uid, self.uid)

    def _group(self, parent):
        path = os.path.join(parent, os.path.basename(self.dir))
        os.mkdir(path)
        for p in (path, path + "/cgroup.procs"):
            os.chown(p, self.uid, self.uid)
        return path

    def _enter(self):
        for group in self.groups:
            with open(group + "/cgroup.procs", "w") as f:
                f.write("0")

    def file(self, name, text, mode=0o644):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def bare(self, text, name="job"):
        return self.file(name, "#!/bin/bash\n" + text, 0o755)

    def folder(self, conf, text, name="ev"):
        self.file(name + "/run.sh", "#!/bin/bash\n" + text, 0o755)
        self.file(name + "/evaluator.conf", f'run = "run.sh"\nisolation = "none"\n{conf}\n')
        return os.path.join(self.dir, name)

    def start(self, *args, env=None, conf=True, **kw):
        """A running `zr evaluate`."""
        drop = ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"] if self.groups else []
        env = {"TMPDIR": self.tmp, "PATH": "/usr/bin:/bin", **({"ZR_CONF": self.conf} if conf else {}), **(env or {})}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*drop, ZR, "evaluate", *args], env=env, cwd=self.dir,
                                **{**pipes, "preexec_fn": self._enter if self.groups else None, **kw})

    def run(self, *args, status=0, **kw):
        """(stdout, stderr) of a call that ends with this status and leaves nothing."""
        process = self.start(*args, **kw)
        out, err = (s.decode() for s in process.communicate(timeout=60))
        assert process.returncode == status, (process.returncode, out, err)
        self.check_empty()
        return out, err

    def json(self, *args, **kw):
        return json.loads(self.run(*args, "--json", **kw)[0])

    def check_empty(self):
        assert os.listdir(self.tmp) == [] and working_in(self.dir) == {}

    def wait_file(self, name):
        path = os.path.join(self.dir, name)
        return wait_for(lambda: os.path.exists(path) and open(path).read().strip(), what=name)

    def close(self):
        end_all(self.dir)
        shutil.rmtree(self.dir)
        for group in self.groups:
            for left in glob.glob(group + "/zr-*"):
                os.rmdir(left)
            os.rmdir(group)


@pytest.fixture
def place():
    p = Place(False)
    yield p
    p.close()


@pytest.fixture(params=["root", pytest.param("user", marks=as_root)])
def anybody(request):
    p = Place(request.param == "user")
    yield p
    p.close()


SUBMISSION = sample("hello")


# --- outcomes ---

def test_a_shipped_evaluator_without_settings(anybody):
    out, err = anybody.run("hello", SUBMISSION, conf=False)
    assert out.startswith("completed\n  score  11\n") and "isolation: none" in out
    assert "counted 11 words in 1 files\n" in err and "hello: running" in err


def test_a_single_file_is_a_folder_with_it_alone(place):
    job = place.bare('ls -A "$ZR_SUBMISSION"')
    assert "poem.txt\n" in place.run(job, sample("hello/poem.txt"))[1]


@as_root
@needs_groups
def test_a_kernel_in_a_sandbox(anybody):
    r = anybody.json("c-kernel", sample("c-kernel/good"))
    assert r["status"] == "completed" and r["scores"]["task"] == "matmul" and r["scores"]["correct"] is True
    assert r["isolation"]["level"] == "sandbox" and r["scores"]["confined"] is True


def test_a_kernel_of_ones_own(place):
    """Also where no sandbox can be had."""
    place.file("zr.conf", 'cgroup_parent = "none"\n')
    r = place.json("c-kernel", sample("c-kernel/good"), "--trust")
    assert r["status"] == "completed" and r["scores"]["correct"] is True and r["isolation"]["level"] == "none"


FAKE_NVCC = r"""#!/bin/bash
# Compiles what has no kernel launches in it, for a device that is ordinary memory.
here=${0%/*}
case $1 in
--version) exec echo "a double, release 0.0, V0" ;;
--list-gpu-arch) exec echo compute_50 ;;
esac
args=()
for a; do
	case $a in
	-arch=* | -code=* | -std=*) ;;
	kernel.cu | */baseline.cu)
		source=$a
		[[ $a == kernel.cu ]] || source=$here/../../c-kernel/src/baseline.c
		exec gcc -O3 "-I$here/../../c-kernel/include" -x c -c "$source" -o "$out" ${define:+"$define"}
		;;
	-DTASK*) define=$a ;;&
	cu) args+=(c++) ;;
	*) args+=("$a") ;;
	esac
	[[ $last != -o ]] || out=$a
	last=$a
done
exec g++ -O2 "-I$here" "${args[@]}" -lm
"""


@as_root
@needs_groups
def test_a_cuda_kernel_in_a_sandbox(anybody):
    """On doubles of GPU, compiler and device: the files of both evaluators are found, and it goes through to its scores."""
    place = anybody
    fake = FakeGpus(place.dir + "/fake")
    fake.scenario([7])
    os.mkdir(place.dir + "/locks", 0o750)
    os.chown(place.dir + "/locks", place.uid, place.uid)
    place.file("zr.conf", f'cuda_library = "{fake.library}"\ngpu_lock_dir = "{place.dir}/locks"\n')
    for name in ("c-kernel", "cuda-kernel"):
        shutil.copytree(os.path.join(BIN, name), f"{place.dir}/bin/{name}")
    place.file("bin/cuda-kernel/tools/nvcc", FAKE_NVCC, 0o755)
    shutil.copy(os.path.join(ROOT, "test/evaluators/fake-cuda/cuda_runtime.h"), f"{place.dir}/bin/cuda-kernel/tools")
    for name, old, new in (("prepare.sh", "PATH=$PATH:", "PATH=$here/tools:$PATH:"), ("run.sh", "--device ", "--device --host-shapes ")):
        with open(f"{place.dir}/bin/cuda-kernel/{name}") as f:
            text = f.read()
        assert old in text
        place.file("bin/cuda-kernel/" + name, text.replace(old, new), 0o755)
    with open(sample("c-kernel/better/kernel.c")) as f:
        place.file("sub/kernel.cu", f.read())
    place.file("sub/task", "matmul\n")
    out, err = place.run("cuda-kernel", place.dir + "/sub", "--bin", place.dir + "/bin", "--json")
    r = json.loads(out)
    assert r["status"] == "completed" and r["scores"]["correct"] is True and r["scores"]["clock"] == "wall time", err
    assert r["isolation"]["level"] == "sandbox" and r["usage"]["gpu_hold_usec"] > 0


def test_a_failing_sample(place):
    out, err = place.run("c-kernel", sample("c-kernel/does-not-compile"), "--trust", status=1)
    assert out.startswith("failed (exit): prepare exited with status 3\n")
    assert "kernel.c does not compile" in err and "kernel.c" not in out


KEYS = {"status", "reason", "detail", "exit_code", "signal", "phase", "attempt_id", "args", "scores", "scores_error", "results",
        "evaluator", "submission_digest", "host", "stderr", "started_at", "finished_at", "usage", "log", "isolation", "conditions"}


def test_json(place):
    ev = place.folder('allow_args = {"--fast", "n=*"}', 'echo "$1 $2"; echo "{\\"score\\": $#}" >"$ZR_OUTPUT/scores.json"; echo oops >&2')
    out, err = place.run(ev, SUBMISSION, "--json", "-e", "--fast", "-e", "n=3")
    r = json.loads(out)
    assert set(r) == KEYS and set(r["results"]) == {"state", "path", "root_hash", "bytes"}
    assert (r["status"], r["reason"], r["exit_code"], r["evaluator"]) == ("completed", "ok", 0, "ev")
    assert r["args"] == ["--fast", "n=3"] and r["scores"] == {"score": 3} and r["results"]["state"] == "none"
    assert r["started_at"] < r["finished_at"] and r["usage"]["wall_usec"] >= 0 and r["isolation"]["level"] == "none"
    assert r["stderr"] == "oops" and "--fast n=3\n" in err and "oops\n" in err


def test_json_of_a_failure(place):
    r = place.json(place.bare("echo no luck >&2; exit 7"), SUBMISSION, status=1)
    assert (r["status"], r["reason"], r["exit_code"], r["stderr"]) == ("failed", "exit", 7, "no luck")
    assert "status 7" in r["detail"] and r["scores"] is None


def test_wall_limit(place):
    ev = place.folder('wall_limit = "300ms"', "sleep 1000")
    out, _ = place.run(ev, SUBMISSION, status=1)
    assert out.startswith("failed (wall-limit): run took longer than 300ms\n")


def test_a_missing_interpreter_is_the_evaluators_fault(place):
    ev = place.folder("", "")
    place.file("ev/run.sh", "#!/nowhere/python\n", 0o755)
    out, _ = place.run(ev, SUBMISSION, status=2)
    assert out.startswith("failed (setup): ") and "No such file" in out


def test_a_killed_keeper_is_the_hosts_fault(place):
    process = place.start(place.bare("echo $$ >../../../../../../pid; exec sleep 1000"), SUBMISSION)
    job = int(place.wait_file("pid"))
    os.kill(children(process.pid)[0], signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 75 and out.startswith(b"failed (lost): ") and not alive(job)
    place.check_empty()


# --- finding things ---

def test_bin_folders(place):
    place.bare("echo from bin", "bin/mine")
    place.bare("echo from here", "mine")
    assert "from bin\n" in place.run("mine", SUBMISSION, "--bin", place.dir + "/bin")[1]
    assert "from bin\n" in place.run("mine", SUBMISSION, env={"ZR_BIN": place.dir + "/bin"})[1]
    place.file("zr.conf", f'bin_dir = "{place.dir}/bin"\n')
    assert "from bin\n" in place.run("mine", SUBMISSION)[1]
    assert "from here\n" in place.run("./mine", SUBMISSION)[1]


@pytest.mark.parametrize("args, sentence", [
    (["nothing", SUBMISSION], "there is no evaluator 'nothing' in "),
    (["job", SUBMISSION], "for the one here say ./job"),
    (["./gone", SUBMISSION], "gone"),
    (["./broken", SUBMISSION], "evaluator.conf:1: "),
    (["./job", "gone"], "gone: No such file"),
    (["./job", "empty"], "holds no regular file"),
    (["./job", "/dev/null"], "neither a file nor a folder"),
    (["./job", SUBMISSION, "-e", "x"], "takes no arguments"),
    (["./job", SUBMISSION, "--output", "full"], "full is not empty"),
    (["./job", SUBMISSION, "--output", "job"], "job is no folder"),
    (["./job"], "too few arguments"),
    (["./container", SUBMISSION], "container"),
])
def test_what_cannot_be_run(place, args, sentence):
    place.bare("touch ran")
    place.file("full/file", "")
    place.file("broken/evaluator.conf", "run = gone.sh\n")
    place.folder("", "", "container")
    place.file("container/evaluator.conf", 'run = "run.sh"\nisolation = "container"\n')
    os.mkdir(place.dir + "/empty")
    out, err = place.run(*args, status=2)
    assert out == "" and sentence in err and err.startswith("zr evaluate: ") and err.count("\n") == 1


# --- results ---

def result_files(folder):
    return sorted(os.path.relpath(os.path.join(top, f), folder) for top, _, files in os.walk(folder) for f in files)


@pytest.mark.parametrize("target", ["out", "deep/er/out", "there/", "/absolute"])
def test_output_folder(place, target):
    os.mkdir(place.dir + "/there")
    path = place.dir + target if target[0] == "/" else target
    job = place.bare('echo said; mkdir "$ZR_OUTPUT/d"; echo 1 >"$ZR_OUTPUT/d/f"')
    r = place.json(job, SUBMISSION, "--output", path)
    assert r["results"] == {**r["results"], "state": "stored", "path": os.path.normpath(os.path.join(place.dir, path))}
    assert result_files(r["results"]["path"]) == [".zr/manifest.json", ".zr/out.log", "d/f"]
    assert not [n for n in os.listdir(os.path.dirname(r["results"]["path"])) if n.startswith(".zr")]


def test_keep(place):
    process = place.start(place.bare("echo said; exit 1"), SUBMISSION, "--keep")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    path = re.search(rb"^result: (.*)$", out, re.M)[1].decode()
    assert os.listdir(place.tmp) == [os.path.basename(path)]
    assert result_files(path) == [".zr/manifest.json", ".zr/out.log"]


def test_a_result_without_anything(place):
    r = place.json(place.bare("exit 0"), SUBMISSION, "--output", "out")
    assert r["results"]["state"] == "stored" and os.listdir(place.dir + "/out") == []


# --- what is shown meanwhile ---

PROGRESS = r'''
echo '{"done": 1, "total": 4, "text": "one"}' >&$ZR_PROGRESS_FD
until [ -e ../../../../../../go ]; do sleep 0.02; done
printf 'a\033[31mb\n'
echo '{"done": 4, "total": 4}' >&$ZR_PROGRESS_FD
'''


class Terminal:
    def __init__(self, place, *args):
        self.master, slave = pty.openpty()
        self.process = place.start(*args, stderr=slave)
        os.close(slave)
        self.seen = b""

    def read(self):
        try:
            piece = os.read(self.master, 65536)
        except OSError:
            return False
        self.seen += piece
        return bool(piece)

    def wait_for(self, text):
        while text not in self.seen:
            assert self.read(), self.seen

    def end(self):
        out = self.process.communicate(timeout=30)[0].decode()
        while self.read():
            pass
        os.close(self.master)
        return out


def test_progress_on_a_terminal(place):
    t = Terminal(place, place.bare(PROGRESS), SUBMISSION)
    t.wait_for(b"job: running [######..................] 1 of 4, one")
    place.file("go", "")
    assert t.end().startswith("completed\n")
    assert rb"a\x1b[31mb" in t.seen  # escaped
    assert t.seen.endswith(b"\r\x1b[K")  # the line is gone


def test_progress_in_a_pipe(place):
    place.file("go", "")
    out, err = place.run(place.bare(PROGRESS), SUBMISSION)
    assert "job: running, run: 1 of 4, one\n" in err or "job: running, run: 4 of 4\n" in err
    assert "a\x1b[31mb\n" in err and "\r" not in err and "a\x1b" not in out


def test_the_log_comes_live_and_in_its_own_bytes(place):
    job = place.bare('echo early; until [ -e ../../../../../../go ]; do sleep 0.02; done; printf "\\xff\\0late"')
    process = place.start(job, SUBMISSION)
    seen = b""
    while b"early\n" not in seen:
        piece = os.read(process.stderr.fileno(), 4096)
        assert piece, seen
        seen += piece
    place.file("go", "")
    assert b"\xff\0late" in process.communicate(timeout=30)[1]


# --- ends ---

STUBBORN = "trap '' TERM INT\necho $$ >../../../../../../pid\n(setsid sleep 1000 &)\nwhile :; do sleep 1; done"
POLITE = "trap 'echo bye; exit 0' TERM\necho $$ >../../../../../../pid\n(setsid sleep 1000 &)\nsleep 1000 & wait"


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_submission_is_packed(place, signo):
    path = place.file("large/zeros", "")
    os.truncate(path, 40 << 30)  # takes far longer than a test may
    process = place.start(place.bare("touch ran"), place.dir + "/large")
    wait_for(lambda: any("packs" in folders for _, folders, _ in os.walk(place.tmp)), what="the packing")
    process.send_signal(signo)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (128 + signo, b""), err
    place.check_empty()


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_cancel(anybody, signo):
    process = anybody.start(anybody.bare(POLITE), SUBMISSION)
    job = int(anybody.wait_file("pid"))
    keepers = children(process.pid)
    process.send_signal(signo)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signo, (out, err)
    assert out.startswith(b"canceled: canceled on request\n") and b"bye\n" in err and b"the job has 5s to end" in err
    assert keepers and not any(alive(p) for p in [job, *keepers])
    anybody.check_empty()


def test_nohup_is_respected(place):
    job = place.bare("echo . >../../../../../../pid; until [ -e ../../../../../../go ]; do sleep 0.02; done")
    process = place.start(job, SUBMISSION, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    place.wait_file("pid")
    process.send_signal(signal.SIGHUP)
    place.file("go", "")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out.startswith(b"completed\n") and b"canceling" not in err


def test_cancel_twice_kills(place):
    place.file("zr.conf", 'term_grace = "10m"\n')
    process = place.start(place.bare(STUBBORN), SUBMISSION)
    job = int(place.wait_file("pid"))
    keepers = children(process.pid)
    process.send_signal(signal.SIGINT)
    while b"canceling" not in process.stderr.readline():
        pass
    assert alive(job)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert keepers and not any(alive(p) for p in [job, *keepers])
    place.check_empty()


def make_old(place):
    """What is left of a call counts as left only after a while."""
    rooms = [os.path.join(place.tmp, n) for n in os.listdir(place.tmp)]
    for room in rooms:
        os.utime(room, (0, 0))
    return rooms


def test_a_killed_call_takes_its_job_along(anybody):
    process = anybody.start(anybody.bare(POLITE), SUBMISSION)
    job = int(anybody.wait_file("pid"))
    keepers = children(process.pid)
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not any(alive(p) for p in [job, *keepers]), what="the job and its keeper to end")
    assert working_in(anybody.dir) == {}
    assert len(make_old(anybody)) == 1
    anybody.run("hello", SUBMISSION)  # and nothing is left of the other


@pytest.mark.skipif("v2" not in GROUPS, reason="no control group v2")
def test_what_a_killed_keeper_left_is_found_by_the_next_call(place):
    process = place.start(place.bare(POLITE.replace("sleep 1000 &)", "sleep 1000 & echo $! >../../../../../../stray)")), SUBMISSION)
    stray = int(place.wait_file("stray"))
    place.wait_file("pid")
    keeper, = children(process.pid)
    os.kill(keeper, signal.SIGSTOP)  # neither sees the end of the other
    process.kill()
    os.kill(keeper, signal.SIGKILL)
    process.communicate(timeout=30)
    assert alive(stray)
    assert len(make_old(place)) == 1
    place.run("hello", SUBMISSION)
    assert not alive(stray)


def test_a_call_leaves_others_alone(place):
    process = place.start(place.bare(POLITE), SUBMISSION)
    job = int(place.wait_file("pid"))
    make_old(place)
    second = place.start("hello", SUBMISSION)
    second.communicate(timeout=30)
    assert second.returncode == 0 and alive(job) and len(os.listdir(place.tmp)) == 1
    process.terminate()
    process.communicate(timeout=30)
    place.check_empty()


# --- walls and GPUs ---

@as_root
@needs_groups
def test_sandbox(anybody):
    r = anybody.json("python-script", sample("python-script/good"))
    assert r["isolation"]["level"] == "sandbox" and r["scores"]["score"] == 1


@pytest.mark.parametrize("evaluator", ["python-script", "c-kernel", "predictions"])
def test_a_sandbox_that_this_host_cannot_give_is_refused(place, evaluator):
    place.file("zr.conf", 'cgroup_parent = "none"\n')
    out, _ = place.run(evaluator, sample(evaluator + "/good"), status=2)
    assert out.startswith("failed (setup): ") and "control group" in out


def test_a_gpu_is_held(place):
    fake = FakeGpus(place.dir + "/fake")
    fake.scenario([7])
    os.mkdir(place.dir + "/locks", 0o750)
    place.file("zr.conf", f'cuda_library = "{fake.library}"\ngpu_lock_dir = "{place.dir}/locks"\n')
    ev = place.folder("gpus = 1", 'echo "gpu $ZR_GPUS"')
    out, err = place.run(ev, SUBMISSION, "--json")
    assert json.loads(out)["usage"]["gpu_hold_usec"] > 0 and f"gpu {uuid(7)}\n" in err
    fake.scenario([])
    assert "asks for 1 GPU" in place.run(ev, SUBMISSION, status=2)[1]
