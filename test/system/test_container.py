# SPDX-License-Identifier: MIT
"""Isolation level `container`: the real podman, with storage of the test's own and an image made of busybox."""
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from lib import boxes
from lib.boxes import Box, alive, descendants
from lib.services import ROOT
from lib.wait import wait_for

GROUPS = boxes.groups()
LIMITS = {"memory_bytes": 128 << 20, "pids": 40, "disk_bytes": 16 << 20}
IMAGE = "localhost/zr-test:1"
APPLETS = ("sh id sleep cat ls true false head tail setsid wc touch grep mkdir rm ps hostname env mount dd kill stat seq sync "
           "readlink test unshare nc").split()
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not shutil.which("podman"), reason="podman is missing"),
              pytest.mark.skipif(not os.path.exists("/bin/busybox"), reason="busybox-static is missing"),
              pytest.mark.skipif(not {"v1_memory", "v2_memory"} & set(GROUPS), reason="no memory controller")]

# The runtime and what it must not do are the host's affair: without systemd no journal, no slices.
CONF = """[containers]
netns = "none"
log_driver = "none"
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
STORAGE = """[storage]
driver = "vfs"
graphroot = "{dir}/root"
runroot = "{dir}/runroot"
"""


def rootfs(path):
    """A tar of a root file system with busybox in it."""
    d = tempfile.mkdtemp(prefix="zr-rootfs-")
    os.chmod(d, 0o755)
    for name in ("bin", "tmp", "proc", "dev", "etc", "box", "output"):
        os.mkdir(f"{d}/{name}")
    shutil.copy("/bin/busybox", d + "/bin/busybox")
    for name in APPLETS:
        os.symlink("busybox", f"{d}/bin/{name}")
    with open(d + "/etc/image", "w") as f:
        f.write("the image\n")
    subprocess.run(["tar", "-C", d, "--owner=0", "--group=0", "-cf", path, "."], check=True)
    shutil.rmtree(d)


class Engine:
    def __init__(self, uid=0):
        self.dir, self.uid = tempfile.mkdtemp(prefix="zr-engine-", dir="/var/tmp"), uid
        self.tar = self.dir + "/rootfs.tar"
        os.mkdir(self.dir + "/run", 0o700)
        # crun does not take a host with both versions of control groups.
        hybrid = "v1_memory" in GROUPS
        for name, text in (("containers.conf", CONF.format(runtime="runc" if hybrid else "crun")), ("storage.conf", STORAGE.format(dir=self.dir))):
            with open(f"{self.dir}/{name}", "w") as f:
                f.write(text)
        rootfs(self.tar)
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.dir, "XDG_RUNTIME_DIR": self.dir + "/run",
                    "CONTAINERS_CONF": self.dir + "/containers.conf", "CONTAINERS_STORAGE_CONF": self.dir + "/storage.conf"}
        for top, _, files in os.walk(self.dir):
            for name in [top, *(os.path.join(top, f) for f in files)]:
                os.chown(name, uid, uid)
        os.chmod(self.dir, 0o755)

    def podman(self, *args, check=True):
        drop = ("/usr/bin/setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups") if self.uid else ()
        r = subprocess.run([*drop, "podman", *args], env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, cwd="/")
        assert not check or r.returncode == 0, r
        return r.stdout.strip()

    def containers(self):
        return self.podman("ps", "-aq").split()

    def end_pause(self):
        """The process that holds the user namespace of a user's podman."""
        path = self.dir + "/run/libpod/tmp/pause.pid"
        try:
            with open(path) as f:
                os.kill(int(f.read()), signal.SIGKILL)
            os.unlink(path)
        except OSError:
            pass

    def close(self):
        self.podman("rm", "-af", check=False)
        self.end_pause()
        with open("/proc/mounts") as f:
            for mount in sorted((line.split()[1] for line in f if self.dir in line), reverse=True):
                subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module")
def engine():
    e = Engine()
    e.podman("import", e.tar, IMAGE)
    yield e
    e.close()


class Contained(Box):
    """A box whose jobs ask for a container; `groups` as the worker aligns them."""

    def __init__(self, base, engine):
        group = GROUPS["v2"][len(boxes._mount("cgroup2")):]
        aligned = {k: boxes._mount("cgroup", k[3:]) + group if k.startswith("v1_") else v for k, v in GROUPS.items()}
        super().__init__(base, aligned)
        self.engine, self.group = engine, group or "/"
        for d in (self.base, self.evaluator, self.submission):
            os.chmod(d, 0o755)

    def script(self, text, name="run", mode=0o755):
        return super().script(text if text.startswith("#!") else "#!/bin/sh\n" + text, name, mode)

    def write_spec(self, run, limits=None, isolation=None, container=None, **more):
        c = {"engine": "podman", "env": [f"{k}={v}" for k, v in self.engine.env.items()], "image": IMAGE, "group": self.group, **(container or {})}
        super().write_spec(run, limits={**LIMITS, **(limits or {})}, isolation={"level": "container", **(isolation or {})},
                           container={k: v for k, v in c.items() if v is not None}, **more)


@pytest.fixture
def box(engine):
    base = tempfile.mkdtemp(prefix="zr-container-", dir="/var/tmp")
    b = Contained(base, engine)
    yield b
    b.stop()
    assert not b.cgroup_dirs() and engine.containers() == [] and groups_of(b) == []
    shutil.rmtree(base)


def groups_of(box):
    """In all trees, those that only the engine uses included."""
    return glob.glob(f"/sys/fs/cgroup/*{'' if box.group == '/' else box.group}/zr-{box.id}")


def until_told(s, what):
    seen = b""
    while what not in seen:
        data = s.recv(65536)
        assert data, seen
        seen += data


def running(words):
    """Processes with such an argument, by id."""
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and words in cmdline(p)]


def lines(box, name="out.log"):
    return box.read(name).decode().splitlines()


def test_ok(box):
    r = box.run('echo out; echo err >&2; cat /etc/image; echo "$#:$1:$0"; echo \'{"text":"half","fraction":0.5}\' >&3; echo \'{"a":1}\' >$ZR_OUTPUT/scores.json')
    assert (r["reason"], r["exit_code"], r["scores"]) == ("ok", 0, {"a": 1}), (r, box.read("err.log"))
    assert lines(box) == ["out", "the image", f"1:/submission:/evaluator/run-{box.id[-6:]}"] and lines(box, "err.log") == ["err"]
    i = r["isolation"]
    assert (i["level"], i["privilege"], i["network"], i["image"]["name"]) == ("container", "root", "none", IMAGE)
    assert {"podman", "slot-uid", "seccomp", "cgroup2.kill"} <= set(i["mechanisms"])
    assert r["usage"]["wall_usec"] < 5000000 and r["usage"]["memory_peak_bytes"] > 0
    tar = subprocess.run(["tar", "--zstd", "-tf", box.sealed + "/result.tar.zst"], capture_output=True, text=True, check=True)
    assert "scores.json" in tar.stdout.split()


def test_walls(box):
    r = box.run("id -u; ls -A /; hostname; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; touch /x /evaluator/x /submission/x; "
                "ls /dev; unshare -U true; nc -w 1 192.0.2.1 80; ls /run /var/run 2>/dev/null; exit 0")
    assert r["reason"] == "ok", r
    out, err = lines(box), box.read("err.log").decode()
    assert int(out[0]) > 0x70000000 and "box" in out
    assert {"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} <= set(out)
    assert err.count("Read-only file system") == 3 and "Operation not permitted" in err and "unreachable" in err.lower()
    assert not [line for line in out if ".sock" in line] and "docker" not in " ".join(out)


@pytest.mark.parametrize("status", [1, 125, 126, 127, 137])
def test_exit_status(box, status):
    r = box.run(f"exit {status}")
    # What a shell makes of a signal cannot be told from it.
    want = ("signal", None, 9) if status == 137 else ("exit", status, None)
    assert (r["reason"], r["exit_code"], r["signal"]) == want, r


def test_phases_and_reference(box):
    os.mkdir(box.evaluator + "/labels")
    for path in (box.evaluator + "/labels/all", box.evaluator + "/key"):
        with open(path, "w") as f:
            f.write("canary\n")
    look = "cat /evaluator/labels/all /evaluator/key; ls $ZR_OUTPUT; "
    r = box.run(prepare=look + "echo p >/box/made; exit 0", run=look + "cat /box/made; echo r >$ZR_OUTPUT/r; exit 0",
                score=look + "cat $ZR_RUN_OUTPUT/r; echo x >$ZR_RUN_OUTPUT/x; echo '{\"s\":1}' >$ZR_OUTPUT/scores.json",
                isolation={"reference": ["labels", "key"]})
    assert (r["reason"], r["scores"]) == ("ok", {"s": 1}), (r, box.read("err.log"))
    assert lines(box) == ["p", "canary", "canary", "r"]


def test_submission_of_its_owner_alone(box):
    with open(box.submission + "/f", "w") as f:
        f.write("seen\n")
    os.chmod(box.submission + "/f", 0o600)
    os.chmod(box.submission, 0o700)
    r = box.run("cat /submission/f; echo x >/submission/f; exit 0")
    assert r["reason"] == "ok" and lines(box) == ["seen"], (r, box.read("err.log"))


def test_wall_limit(box):
    r = box.run("trap '' TERM; while :; do sleep 1; done", limits={"wall_usec": 3000000})
    assert r["reason"] == "wall-limit" and r["isolation"]["end"]["empty_usec"] < 6000000


def test_says_goodbye(box):
    r = box.run("trap 'echo bye; exit 3' TERM; sleep 1000 & wait", limits={"wall_usec": 3000000}, term_grace_usec=10000000)
    assert (r["reason"], r["exit_code"]) == ("wall-limit", 3) and lines(box) == ["bye"]


def test_memory(box):
    r = box.run("dd if=/dev/zero of=/dev/null bs=200M count=1; sync; exit 0")
    assert r["reason"] == "memory" and r["usage"]["memory_peak_bytes"] <= 128 << 20, r


def test_pids(box):
    r = box.run("for i in $(seq 60); do sleep 30 & done; wait")
    assert r["reason"] == "pids", r


def test_disk(box):
    r = box.run("dd if=/dev/zero of=/box/x bs=1M count=64; sleep 1; exit 7")
    assert r["reason"] in ("disk", "exit") and os.path.exists(box.sealed)
    assert r["reason"] == "disk" or b"large" in box.read("err.log")


def test_nothing_outlives_it(box):
    r = box.run("setsid sleep 1011 & setsid sh -c 'trap \"\" TERM HUP; sleep 1012' & echo said; exit 0")
    assert r["reason"] == "ok" and lines(box) == ["said"]
    assert not running(b"sleep\x001011\0") and not running(b"sleep\x001012\0")


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return b""


def test_no_such_program(box, engine):
    r = box.run(box.script("echo never", mode=0o644))
    assert r["reason"] == "setup" and "could not start its container" in r["detail"], r
    assert b"permission denied" in box.read("err.log")
    # What an image lacks is only found when its process is there.
    other = Contained(box.base, engine)
    r = other.run("#!/no/such/interpreter\n")
    assert r["reason"] in ("exit", "setup") and b"no such file" in other.read("err.log")


def test_images(box, engine):
    r = box.run("exit 0", container={"image": "localhost/none:1"})
    assert r["reason"] == "setup" and "there is no image localhost/none:1 on this host" in r["detail"]
    digest = "sha256:" + "0" * 64
    r = Contained(box.base, engine).run("exit 0", container={"digest": digest})
    assert r["reason"] == "setup" and r["detail"].endswith("is not the one with the digest " + digest)
    ident = engine.podman("image", "inspect", "--format", "{{.Id}}", IMAGE)
    for d in ("sha256:" + ident, engine.podman("image", "inspect", "--format", "{{.Digest}}", IMAGE)):
        assert Contained(box.base, engine).run("exit 0", container={"digest": d})["reason"] == "ok"
    # Without a network a pull fails, with the engine's own words.
    r = Contained(box.base, engine).run("exit 0", container={"image": "127.0.0.1:1/none:1", "pull": True}, timeout=60)
    assert r["reason"] == "setup" and "the image 127.0.0.1:1/none:1 cannot be pulled: " in r["detail"] and "refused" in r["detail"]


@pytest.mark.parametrize("kind", ["load", "import"])
def test_offline_image(box, engine, kind):
    name, path = f"localhost/zr-{kind}:1", box.base + "/image.tar"
    if kind == "load":
        engine.podman("tag", IMAGE, name)
        engine.podman("save", "-o", path, name)
        engine.podman("rmi", name)
    else:
        shutil.copy(engine.tar, path)
    r = box.run("cat /etc/image", container={"image": name, "file": path})
    assert r["reason"] == "ok" and lines(box) == ["the image"], r
    engine.podman("rmi", name)


def test_image_of_the_submission(box, engine):
    shutil.copy(engine.tar, box.submission + "/image.tar")
    before = engine.podman("images", "-q")
    r = box.run("cat /etc/image", container={"image": None, "imported": "image.tar"})
    assert r["reason"] == "ok" and lines(box) == ["the image"], r
    assert engine.podman("images", "-q") == before  # though both are made of the same archive
    other = Contained(box.base, engine)
    r = other.run("exit 0", container={"image": None, "imported": "none.tar"})
    assert r["reason"] == "setup" and "has no file none.tar" in r["detail"]
    os.symlink("/etc/passwd", box.submission + "/link.tar")
    r = Contained(box.base, engine).run("exit 0", container={"image": None, "imported": "link.tar"})
    assert r["reason"] == "setup" and "has no file link.tar" in r["detail"]


SITE = """
[ -e /etc/image ] && echo "$ZR_PHASE in $(id -u)"; sleep ${1:+0}; [ "$ZR_ATTEMPT" = 1 ] && [ -e /submission/wait ] && exec sleep 1014; exit 0
"""


def test_through_a_worker_and_its_death(sandbox, engine):
    """Keeper and worker are killed; another worker ends the container, tries again and leaves nothing."""
    sandbox.prepare()
    sandbox.evaluator("contained", "#!/bin/sh" + SITE, conf=f'isolation = container\nimage = "{IMAGE}"\nrun = run.sh\nmemory = "128M"\npids = 40\n')
    worker = sandbox.eval_worker(env=engine.env)
    sandbox.update_worker()
    sandbox.zr("challenges:add", "c", "--evaluator", "contained")
    path = os.path.dirname(sandbox.file("sub/wait", "x"))
    ident = sandbox.zr_id("submissions:eval", sandbox.zr_id("submissions:create", "c", path, "--author", "ada"))
    wait_for(lambda: running(b"sleep\x001014\0"), 30, "the job to run")
    (pid,) = running(b"sleep\x001014\0")
    keepers = [p for p in os.listdir("/proc") if p.isdigit() and sandbox.state in cmdline_of_keeper(p)]
    assert len(keepers) == 1
    worker.kill()
    os.kill(int(keepers[0]), signal.SIGKILL)
    sandbox.eval_worker(env=engine.env)
    done = sandbox.wait_evaluation(ident, "completed", "failed")
    assert (done["reason"], done["attempt"]) == ("ok", 2) and not alive(pid)
    attempts = sandbox.evaluation(ident)["attempts"]
    assert attempts[-1]["isolation"]["level"] == "container" and attempts[-1]["isolation"]["image"]["name"] == IMAGE
    wait_for(lambda: engine.containers() == [], 10, "no container to be left")


def test_a_starting_worker_sweeps(sandbox, engine):
    """Though the evaluation is not tried again, and no other asks for a container."""
    sandbox.prepare().setting("infrastructure_retries", 0)
    sandbox.evaluator("contained", "#!/bin/sh\nexec sleep 1018\n", conf=f'isolation = container\nimage = "{IMAGE}"\nrun = run.sh\nmemory = "128M"\npids = 40\n')
    worker = sandbox.eval_worker(env=engine.env)
    sandbox.zr("challenges:add", "c", "--evaluator", "contained")
    path = os.path.dirname(sandbox.file("sub/answer", "x"))
    sandbox.zr_id("submissions:eval", sandbox.zr_id("submissions:create", "c", path, "--author", "ada"))
    wait_for(lambda: running(b"sleep\x001018\0"), 30, "the job to run")
    (keeper,) = [p for p in os.listdir("/proc") if p.isdigit() and sandbox.state in cmdline_of_keeper(p)]
    worker.kill()
    os.kill(int(keeper), signal.SIGKILL)
    assert len(engine.containers()) == 1
    sandbox.eval_worker(env={"PATH": engine.env["PATH"]})  # it need not know where the engine is any more
    wait_for(lambda: engine.containers() == [], 20, "no container to be left")
    assert not running(b"sleep\x001018\0")


def cmdline_of_keeper(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd") if b"zr-box" in cmdline(pid) else ""
    except OSError:
        return ""


def test_evaluator_image(engine, tmp_path):
    """The shipped evaluator and its sample, with `zr evaluate`."""
    ev = os.path.join(engine.dir, "image")
    shutil.copytree(os.path.join(ROOT, "scripts/bin/image"), ev)
    subprocess.run([ev + "/make-judge"], check=True)
    subprocess.run([os.path.join(ROOT, "examples/image/make"), engine.dir + "/sub"], check=True)
    r = subprocess.run([os.path.join(boxes.BUILD, "zr"), "evaluate", ev, engine.dir + "/sub", "--json"], env=engine.env, capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and json.loads(r.stdout)["scores"] == {"score": 4, "cases": 4}, (r.stdout, r.stderr)
    # The answers are right only if the submission counts them: another image answers nothing.
    os.makedirs(engine.dir + "/empty")
    shutil.copy(engine.tar, engine.dir + "/empty/image.tar")
    r = subprocess.run([os.path.join(boxes.BUILD, "zr"), "evaluate", ev, engine.dir + "/empty", "--json"], env=engine.env, capture_output=True, text=True, timeout=60)
    assert json.loads(r.stdout)["scores"] == {"score": 0, "cases": 4}, (r.stdout, r.stderr)


def test_cancel(box):
    box.start("sleep 1000")
    with box.connect() as s:
        until_told(s, b'"started"')
        s.sendall(b'{"t":"cancel"}\n')
        assert box.wait()["reason"] == "canceled"


def test_keeper_killed(box, engine):
    """What is left of it runs on until somebody looks; the next keeper removes what the engine remembers."""
    shutil.copy(engine.tar, box.submission + "/image.tar")
    images = engine.podman("images", "-q")
    box.start("exec sleep 1013", container={"image": None, "imported": "image.tar"})
    procs = os.path.join(GROUPS["v2"], "zr-" + box.id)
    wait_for(lambda: running(b"sleep\x001013\0"), 20, "the job to run")
    pids = running(b"sleep\x001013\0")
    box.process.kill()
    box.process.wait()
    # What a worker that finds the box does first.
    with open(procs + "/cgroup.kill", "w") as f:
        f.write("1")
    wait_for(lambda: not any(alive(p) for p in pids), 10, "the container to die")
    assert len(engine.containers()) == 1 and engine.podman("images", "-q") != images
    other = Contained(box.base, engine)
    assert other.run("exit 0")["reason"] == "ok"
    assert engine.containers() == [] and engine.podman("images", "-q") == images
    wait_for(box.remove_groups, 10, "its groups to be empty")
    assert groups_of(box) == []


def test_refusals(box, engine):
    r = box.run("exit 0", container={"engine": "no-such-engine"})
    assert r["reason"] == "setup" and "there is no no-such-engine on this host (container_engine)" in r["detail"]
    b = Contained(box.base, engine)
    b.groups = {}
    r = b.run("exit 0", container={"group": None})
    assert r["reason"] == "setup" and "no control group (version 2)" in r["detail"]
    assert json.loads(json.dumps(r))["started_at"] is None and time.time()


# --- docker's client, with podman as its server; not what a docker daemon would make of it -------------

@pytest.fixture(scope="module")
def docker(engine):
    if not shutil.which("docker"):
        pytest.skip("docker's client is missing")
    path = engine.dir + "/docker.sock"
    # What watches its containers leaves a file `oom` in the working folder when one runs out of memory.
    server = subprocess.Popen(["podman", "system", "service", "-t", "0", "unix://" + path], env=engine.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=engine.dir)
    wait_for(lambda: os.path.exists(path), 20, "podman's socket")
    # The client sends the filter itself, where this server wants the name of a file: it goes without.
    client = engine.dir + "/docker"
    with open(client, "w") as f:
        f.write('#!/bin/bash\nargs=()\nfor a; do [[ $a == --security-opt=seccomp=* ]] || args+=("$a"); done\nexec ' + shutil.which("docker") + ' "${args[@]}"\n')
    os.chmod(client, 0o755)
    yield {"engine": client, "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"HOME={engine.dir}", f"DOCKER_HOST=unix://{path}"]}
    server.terminate()
    server.wait()


def test_docker(box, docker):
    r = box.run("echo out; echo err >&2; id -u; cat /etc/image; touch /x; ls -d /run/*.sock $DOCKER_HOST 2>/dev/null; echo x >$ZR_OUTPUT/x; exit 3", container=docker)  # whose end this client does not notice
    assert (r["reason"], r["exit_code"]) == ("exit", 3), (r["detail"], box.has("err.log") and box.read("err.log"))
    out = lines(box)
    assert out[0] == "out" and int(out[1]) > 0x70000000 and out[2:] == ["the image"] and b"Read-only" in box.read("err.log")
    assert "docker" in r["isolation"]["mechanisms"] and "progress-descriptor" in {m["what"] for m in r["isolation"]["missing"]}


def test_docker_that_was_over_before_anybody_looked(box, docker):
    box.start("echo out", container=docker)
    # The client is about to ask for the container.
    wait_for(lambda: [p for p in descendants(box.process.pid) if b"\0run\0" in cmdline(p)], 20, "the client")
    box.stop_keeper()
    try:
        wait_for(lambda: box.engine.podman("ps", "-aq", "--filter", "status=exited"), 30, "the container to end")
    finally:
        box.process.send_signal(signal.SIGCONT)
    r = box.wait()
    assert r["reason"] == "ok" and lines(box) == ["out"], r


def test_docker_limits(box, docker):
    """The container is no descendant of ours: it is found by its group."""
    r = box.run("trap '' TERM; setsid sleep 1016 & while :; do sleep 1; done", limits={"wall_usec": 4000000}, container=docker)
    assert r["reason"] == "wall-limit" and not running(b"sleep\x001016\0")
    other = Contained(box.base, box.engine)
    r = other.run("dd if=/dev/zero of=/dev/null bs=200M count=1; exit 0", container=docker)
    assert r["reason"] == "memory", r


# --- GPUs ------------------------------------------------------------------------------------------------

def test_gpu_by_cdi(box, engine):
    """As far as a host without GPUs can show it: the engine gets the held one by its UUID, and no other."""
    kind = "GPU-00000001-1111-2222-3333-444444444444"
    cdi = {"cdiVersion": "0.3.0", "kind": "nvidia.com/gpu", "devices": [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": f"/dev/nvidia{i}", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3}]}}
        for i, name in enumerate((kind, kind.replace("1-", "2-", 1)))]}
    os.makedirs(engine.dir + "/cdi", exist_ok=True)
    with open(engine.dir + "/cdi/test.json", "w") as f:
        json.dump(cdi, f)
    # In a /run of its own, where podman looks for such files.
    private = ("/usr/bin/unshare", "-m", "/bin/sh", "-c", 'mount -t tmpfs run /run && mkdir /run/cdi && cp "$0"/* /run/cdi/ && exec "$@"', engine.dir + "/cdi")
    gpus = {"count": 1, "lock_dir": box.base + "/locks", "double": True, "list": [
        {"index": 0, "uuid": kind, "name": "H100", "compute_capability": "9.0", "memory_bytes": 80 << 30, "node": 0}]}
    os.makedirs(box.base + "/locks", mode=0o750)
    r = box.run("ls /dev | grep nvidia; echo $CUDA_VISIBLE_DEVICES", prepare="ls /dev | grep nvidia; exit 0", gpus=gpus, wrapper=private)
    assert r["reason"] == "ok" and lines(box) == ["nvidia0", kind], (r, box.read("err.log") if box.has("err.log") else "")


# --- as another user -----------------------------------------------------------------------------------

USER = "games"  # any that is there and has no processes


@pytest.fixture(scope="module")
def rootless():
    e = Engine(pwd.getpwnam(USER).pw_uid)
    e.podman("import", e.tar, IMAGE)
    yield e
    e.close()


@pytest.fixture
def user_box(rootless):
    """A box of that user's, in control groups that it was given."""
    base, made = tempfile.mkdtemp(prefix="zr-rootless-", dir="/var/tmp"), []
    b = Contained(base, rootless)
    b.groups = {}
    for key, value in GROUPS.items():
        if isinstance(value, str):
            value = os.path.join(value, os.path.basename(base))
            os.mkdir(value)
            made.append(value)
            for path in (value, value + "/cgroup.procs"):
                os.chown(path, rootless.uid, rootless.uid)
        b.groups[key] = value
    leaf = b.groups["v2"] + "/leaf"
    os.mkdir(leaf)
    os.chown(leaf + "/cgroup.procs", rootless.uid, rootless.uid)

    def run(script, **kw):
        b.write_spec(script, container={"group": None, **kw.pop("container", {})}, **kw)
        for top, _, files in os.walk(base):
            for name in [top, *(os.path.join(top, f) for f in files)]:
                os.lchown(name, rootless.uid, rootless.uid)
        drop = ("/usr/bin/setpriv", f"--reuid={rootless.uid}", f"--regid={rootless.uid}", "--clear-groups")

        def enter():
            with open(leaf + "/cgroup.procs", "w") as f:
                f.write("0")
        subprocess.run([*drop, boxes.KEEPER, b.dir], stdin=subprocess.DEVNULL, preexec_fn=enter, env={}, cwd="/", timeout=60, check=True)
        return b.result()
    b.run = run
    yield b
    assert rootless.containers() == []
    # Podman's pause process was started in the box's group's parent.
    rootless.end_pause()
    wait_for(lambda: all(boxes.remove_group(d) for d in made), 10, "the groups to be empty")
    shutil.rmtree(base)


def test_rootless(user_box, rootless):
    rootless.end_pause()  # so that ours is the first, and leaves a new one behind
    r = user_box.run("id -u; cat /proc/self/uid_map /etc/image; touch /x; echo x >$ZR_OUTPUT/x; grep CapEff /proc/self/status; exit 0")
    assert r["reason"] == "ok", (r, user_box.read("err.log"))
    out = lines(user_box)
    assert out[0] == "0" and out[1].split()[1] == str(user_box.engine.uid) and "the image" in out and "CapEff:\t0000000000000000" in out
    i = r["isolation"]
    assert i["privilege"] == "rootless" and {"slot-uid", "engine.groups"} <= {m["what"] for m in i["missing"]}
    assert b"Read-only" in user_box.read("err.log")
    assert rootless.containers() == []


def test_rootless_memory(user_box):
    r = user_box.run("dd if=/dev/zero of=/dev/null bs=400M count=1; exit 0")
    assert r["reason"] == "memory", r


def test_rootless_wall_limit(user_box):
    r = user_box.run("trap '' TERM; setsid sleep 1015 & while :; do sleep 1; done", limits={"wall_usec": 4000000})
    assert r["reason"] == "wall-limit" and not running(b"sleep\x001015\0")
