# SPDX-License-Identifier: MIT
"""worker:container: the commands that it makes, and a worker started by them through a double of the engine
(test/fake/engine): that a container keeps its walls is the engine's promise, and not tested here."""
import json
import os
import shlex
import shutil
import signal
import subprocess

import pytest

from lib.fakegpu import FakeGpus, uuid
from lib.pike import STUB, Pike
from lib.services import BUILD, ROOT
from lib.wait import wait_for

ENGINES = ["docker", "podman", "podman-hpc", "apptainer"]


class Launcher(Pike):
    def __init__(self):
        super().__init__()
        self.app, self.seen_file = os.path.join(self.dir, "app"), os.path.join(self.dir, "engine.json")
        os.makedirs(os.path.join(self.app, "scripts"))
        shutil.copy(STUB, os.path.join(self.app, "scripts/eval.py"))
        for engine in ENGINES:
            os.symlink(os.path.join(ROOT, "test/fake/engine/docker"), os.path.join(self.dir, "bin", engine))
        os.symlink(os.path.join(BUILD, "zr"), os.path.join(self.dir, "bin/zr"))
        scratch = os.path.join(self.dir, "in-memory")
        os.mkdir(scratch)
        self.env.update(ENGINE_SEEN=self.seen_file, ENGINE_SCRATCH=scratch, USER="ada")

    def argv_of(self, *more):
        return [os.path.join(BUILD, "zr"), "worker:container", "--worker-io-dir", self.io, "--app-dir", self.app, *more]

    def call(self, *more, status=0, cwd=None):
        r = subprocess.run(self.argv_of(*more), env=self.env, cwd=cwd or self.dir, capture_output=True, text=True, timeout=60)
        assert r.returncode == status, (r.returncode, r.stderr)
        return r

    def dry(self, *more):
        return shlex.split(self.call("--dry-run", *more).stdout)

    def launch(self, *more):
        return subprocess.Popen(self.argv_of(*more), env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def hear(self, p, what):
        """What the worker says goes the same way."""
        said = []
        for line in p.stderr:
            said.append(line)
            if what in line:
                return
        raise AssertionError(f"'{what}' was not said: {said}")

    def engine(self):
        with open(self.seen_file) as f:
            return json.load(f)


@pytest.fixture
def launcher():
    made = Launcher()
    yield made
    made.close()


WORKER = ["zr", "worker:run:eval", "--dialect=pike", "--input-dir=/input", "--output-dir=/output", "--scratch-dir=/scratch",
          "--eval-script=/app/scripts/eval.py", "--arch=Hopper", "--max-active-tasks=20"]


def test_docker_gets_the_walls(launcher):
    words = launcher.dry("--arch", "Hopper", "--gpus", "all")
    assert words[:3] == ["docker", "run", "--rm"] and words[-len(WORKER) - 1:] == ["kernel-bench-deps", *WORKER]
    for wall in ("--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none", "--read-only", f"--user={os.getuid()}:{os.getgid()}",
                 f"--volume={launcher.io}/input:/input", f"--volume={launcher.io}/output:/output",
                 f"--volume={launcher.io}/passwd:/etc/passwd:ro", f"--volume={launcher.app}:/app:ro"):
        assert wall in words, wall
    assert {w.split(":")[0] for w in words if w.startswith("--tmpfs=")} == {"--tmpfs=/tmp", "--tmpfs=/cache", "--tmpfs=/scratch"}
    assert words[words.index("--gpus") + 1] == "all" and not any("socket" in w or w.startswith("--privileged") for w in words)
    assert os.listdir(launcher.io) == [] and not os.path.exists(launcher.seen_file)


def test_apptainer_binds_folders_of_the_channel(launcher):
    words = launcher.dry("--engine", "apptainer", "--sif_path", "w.sif", "--arch", "Hopper", "--gpus", "all", "--bash")
    assert words == ["apptainer", "exec", "--containall", "--no-privs", "--nv",
                     *(f"--bind={launcher.io}/{n}:/{n}" for n in ("input", "output", "tmp", "cache", "scratch")),
                     f"--bind={launcher.app}:/app:ro", "w.sif", "bash"]


def test_gpus_of_the_architecture(launcher):
    fake = FakeGpus(os.path.join(launcher.dir, "cuda"))
    fake.scenario([1, 2, {"uuid": uuid(3), "cc": "8.0", "total": 40536}])
    with open(launcher.conf, "a") as f:
        f.write(f'cuda_library = "{fake.library}"\n')
    docker = launcher.dry("--arch", "hopper")
    assert docker[docker.index("--gpus") + 1] == f'"device={uuid(1)},{uuid(2)}"'
    podman = launcher.dry("--arch", "Ampere", "--engine", "podman", "--pull-image", "--image", "registry.example/w:1")
    assert [w for w in podman if w.startswith("--device")] == [f"--device=nvidia.com/gpu={uuid(3)}"]
    assert podman[podman.index("--pull=always") + 1] == "registry.example/w:1"
    assert "--gpu" in launcher.dry("--arch", "Hopper", "--engine", "podman-hpc")
    apptainer = launcher.dry("--arch", "Hopper", "--engine", "apptainer", "--sif-path", "w.sif")
    assert "--nv" in apptainer and f"--env=CUDA_VISIBLE_DEVICES={uuid(1)},{uuid(2)}" in apptainer
    assert not [w for w in launcher.dry("--arch", "Hopper", "--gpus", "none") if "gpu" in w]
    assert "has no GPU of the architecture Ada" in launcher.call("--arch", "Ada", status=1).stderr


@pytest.mark.parametrize("words, status, says", [
    ([], 2, "--arch is missing"),
    (["--arch", "Hopper", "--engine", "lxc"], 2, "bad value for --engine: 'lxc'"),
    (["--arch", "Hopper", "--engine", "apptainer"], 2, "apptainer needs --sif-path"),
    (["--arch", "Hopper", "--sif-path", "x"], 2, "--sif-path is for --engine apptainer"),
    (["--arch", "no such", "--gpus", "none"], 2, "bad value for --arch: 'no such'"),
    (["--arch", "Hopper", "--max-active-tasks", "0"], 2, "want 1 to 1024"),
    (["--arch", "Hopper", "--gpus", "two"], 2, "bad value for --gpus: 'two'"),
    (["--arch", "Hopper", "--app-dir", "/nowhere"], 1, "/nowhere: No such file"),
    (["--arch", "Hopper", "--gpus", "none", "--worker-io-dir", "a:b"], 1, "engines mind ':'"),
])
def test_wrong_calls(launcher, words, status, says):
    assert says in launcher.call(*words, status=status).stderr


def test_an_engine_that_is_not_there(launcher):
    os.unlink(os.path.join(launcher.dir, "bin/podman-hpc"))
    launcher.env["PATH"] = f"{launcher.dir}/bin"
    assert "there is no command 'podman-hpc'" in launcher.call("--arch", "Hopper", "--engine", "podman-hpc", status=1).stderr
    assert os.listdir(launcher.io) == []


@pytest.mark.parametrize("engine", [["docker"], ["apptainer", "--sif-path", "w.sif"]], ids=["docker", "apptainer"])
def test_a_worker_is_started_and_waited_for(launcher, engine):
    for name in ("tmp", "cache", "scratch"):
        os.makedirs(os.path.join(launcher.io, name, "old"))
    p = launcher.launch("--arch", "Hopper", "--gpus", "none", "--engine", *engine)
    launcher.hear(p, "zr worker:container: the worker is ready")
    assert launcher.messages() == [] and launcher.engine()[0] == engine[0]
    with open(os.path.join(launcher.io, "ready.txt")) as f:
        assert f.read() == "1"
    if engine[0] == "docker":
        with open(os.path.join(launcher.io, "passwd")) as f:
            assert f.read() == f"ada:x:{os.getuid()}:{os.getgid()}::{launcher.dir}:/bin/sh\n"
    assert not any(os.path.exists(os.path.join(launcher.io, n, "old")) for n in ("tmp", "cache", "scratch"))
    launcher.ask("a", "good()")
    assert launcher.reply("a")["eval_results"]["runtime"] == 1.25
    launcher.send({"type": "close"})
    assert p.wait(30) == 0


def test_signals_and_status_are_the_engines(launcher):
    p = launcher.launch("--arch", "Hopper", "--gpus", "none")
    launcher.hear(p, "the worker is ready")
    p.send_signal(signal.SIGTERM)
    assert p.wait(30) == 0
    os.unlink(os.path.join(launcher.dir, "bin/docker"))
    with open(os.path.join(launcher.dir, "bin/docker"), "w") as f:
        f.write("#!/bin/sh\necho no daemon >&2\nexit 125\n")
    os.chmod(f.name, 0o755)
    assert "no daemon" in launcher.call("--arch", "Hopper", "--gpus", "none", status=125).stderr


def test_a_worker_that_never_answers(launcher):
    path = os.path.join(launcher.dir, "bin/docker")
    os.unlink(path)
    with open(path, "w") as f:
        f.write("#!/bin/sh\nexec sleep 1000\n")
    os.chmod(path, 0o755)
    p = launcher.launch("--arch", "Hopper", "--gpus", "none", "--wait", "300ms")
    launcher.hear(p, "no answer from the worker within 300ms")
    wait_for(lambda: not launcher.pairs(), 5)
    p.terminate()
    assert p.wait(10) == 128 + signal.SIGTERM
