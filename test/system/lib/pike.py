# SPDX-License-Identifier: MIT
"""The driver's side of the dialect pike, from its contract: pairs of files in two folders."""
import copy
import json
import math
import os
import shutil
import subprocess
import tempfile
import uuid

from lib import processes
from lib.daemon import Daemon
from lib.services import BUILD, ROOT
from lib.wait import wait_for

STUB = os.path.join(ROOT, "test/fake/pike/eval.py")


class Pike:
    def __init__(self, polling=False, settings="", **options):
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="zr-pike."))
        self.io = os.path.join(self.dir, "worker_io")
        self.input, self.output, self.scratch = (os.path.join(self.io, n) for n in ("input", "output", "scratch"))
        self.seen_dir = os.path.join(self.dir, "seen")
        for folder in (self.io, self.seen_dir, os.path.join(self.dir, "bin")):
            os.mkdir(folder)
        os.symlink("/usr/bin/python3", os.path.join(self.dir, "bin", "python"))
        self.conf = os.path.join(self.dir, "zr.conf")
        with open(self.conf, "w") as f:
            f.write(f'hostname = "oberon"\nrun_dir = "{self.dir}/run"\ngpu_lock_dir = "{self.dir}/gpu"\n')
            f.write(settings)
            if polling:
                f.write('channel_watch = "poll"\nchannel_scan = 500ms\n')
        self.env = {"PATH": f"{self.dir}/bin:/usr/bin:/bin", "HOME": self.dir, "ZR_CONF": self.conf, "STUB_SEEN": self.seen_dir,
                    "QUOTED": "it's a $thing\nof two lines",
                    **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        self.options, self.daemons, self.mounted = options, [], []

    def bind(self):
        """Another file system's face of the same folder: what polling is for."""
        subprocess.run(["mount", "--bind", self.io, self.io], check=True)
        self.mounted.append(self.io)
        return self

    def argv(self, **options):
        given = {"channel": "dir:" + self.io, "dialect": "pike", "arch": "Hopper", "eval-script": STUB, "max-active-tasks": 4,
                 **self.options, **options}
        return [os.path.join(BUILD, "zr"), "worker:run:eval", *(
            f"--{k}={v}" for k, vs in given.items() if vs is not None for v in (vs if isinstance(vs, list) else [vs]))]

    def start(self, ready=True, **options):
        daemon = Daemon("zr-eval", self.argv(**options), self.env, os.path.join(self.dir, "log"), self.dir, os.path.join(self.dir, "out"))
        self.daemons.append(daemon)
        return daemon.wait_ready() if ready else daemon

    def other(self, name):
        """Another driver of the same worker: a folder of its own."""
        one = copy.copy(self)
        one.io = os.path.join(self.dir, name)
        one.input, one.output = os.path.join(one.io, "input"), os.path.join(one.io, "output")
        os.makedirs(one.input, exist_ok=True)
        return one

    # --- pairs ---

    def send(self, message, stem=None):
        stem = stem or str(uuid.uuid4())
        with open(os.path.join(self.input, stem + ".json"), "wb") as f:
            f.write(message if isinstance(message, bytes) else json.dumps(message).encode())
        open(os.path.join(self.input, stem + ".done"), "w").close()
        return stem

    def ask(self, ident, code, **more):
        return self.send({"id": ident, "type": "eval", "level": "3-pike", "task": 1, "code": code, "mode": "eager", **more})

    def texts(self):
        """What lies in the output folder, complete, by name."""
        found = {}
        for name in os.listdir(self.output) if os.path.isdir(self.output) else ():
            if name.endswith(".done"):
                assert os.path.getsize(os.path.join(self.output, name)) == 0
                with open(os.path.join(self.output, name[:-5] + ".json")) as f:
                    found[name[:-5]] = f.read()
        return found

    def messages(self):
        return [json.loads(t) for t in self.texts().values()]

    def replies(self, ident):
        return [m for m in self.messages() if m.get("type") == "result" and m["id"] == ident]

    def reply(self, ident, timeout=20):
        """Waits for the one reply to an id; the `results` of it."""
        found = wait_for(lambda: self.replies(ident), timeout, f"a reply to {ident}")
        assert len(found) == 1 and set(found[0]) == {"id", "type", "results"}
        results = found[0]["results"]
        assert set(results) == {"stdout", "stderr", "eval_results", "timed_out"}
        check_results(results["eval_results"])
        return results

    def take(self):
        """Reads and deletes everything, as a driver does."""
        texts = self.texts()
        for stem in texts:
            os.unlink(os.path.join(self.output, stem + ".json"))
            os.unlink(os.path.join(self.output, stem + ".done"))
        return [json.loads(t) for t in texts.values()]

    def handshakes(self):
        return [m for m in self.messages() if m == {"type": "handshake"}]

    # --- what happened ---

    def seen(self, name):
        path = os.path.join(self.seen_dir, name)
        with open(path) as f:
            return json.load(f)

    def started(self):
        return sorted(n for n in os.listdir(self.seen_dir) if not n.endswith(".new"))

    def wait_started(self, n=1):
        wait_for(lambda: len(self.started()) >= n, 20, f"{n} tasks to start")

    def pairs(self):
        return sorted(n for n in os.listdir(self.input) if n.endswith((".json", ".done")))

    def left(self):
        """Files of tasks under scratch."""
        return [os.path.join(d, n) for d in ("code", "eval_output", "torch_ext", "triton_cache", "tmp")
                for n in os.listdir(os.path.join(self.scratch, d))]

    def log(self):
        return self.daemons[-1].log()

    def lines(self):
        """What operators read on standard output."""
        with open(os.path.join(self.dir, "out"), errors="surrogateescape") as f:
            return f.read().splitlines()

    def close(self):
        for daemon in self.daemons:
            daemon.close()
        processes.end_all(self.dir)
        for path in self.mounted:
            subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


def check_results(r):
    """One of the three forms, and numbers that Python takes for floats."""
    if r == {"loaded": False}:
        return
    assert r["loaded"] is True and isinstance(r["correct"], bool) and all(type(v) is float for v in r["max_diff"])
    assert set(r) == ({"loaded", "correct", "max_diff", "runtime"} if r["correct"] else {"loaded", "correct", "max_diff"})
    assert not r["correct"] or (type(r["runtime"]) is float and not math.isnan(r["runtime"]))
