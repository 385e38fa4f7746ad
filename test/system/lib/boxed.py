# SPDX-License-Identifier: MIT
"""A shipped evaluator on a sample submission, in a real sandbox: zr-box without a worker, as root or as another user."""
import json
import os
import shutil
import subprocess
import tempfile

from lib import boxes
from lib.evaluation import BIN, read_conf

GROUPS = boxes.groups()
USER = 20002
SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(text):
    return int(text[:-1]) * SIZES[text[-1]]


class Boxed:
    """Folders outside of /tmp that the keeper's user owns; run() as often as wanted, close() at the end."""

    def __init__(self, evaluator, user=False):
        self.uid = USER if user else 0
        self.base = tempfile.mkdtemp(prefix="zr-boxed-", dir="/var/tmp")
        os.chmod(self.base, 0o755)
        self.evaluator = os.path.join(self.base, "ev")
        shutil.copytree(os.path.join(BIN, evaluator), self.evaluator)
        self.conf = read_conf(self.evaluator + "/evaluator.conf")
        self.groups, self._made = {}, []
        for key, value in GROUPS.items():
            self.groups[key] = value if not isinstance(value, str) else self._group(value, os.path.basename(self.base))
        boxes.pass_controllers(self.groups)
        self.leaf = self._group(self.groups["v2"], "leaf")

    def _group(self, parent, name):
        path = os.path.join(parent, name)
        os.mkdir(path)
        for p in (path, path + "/cgroup.procs"):
            os.chown(p, self.uid, self.uid)
        self._made.insert(0, path)
        return path

    def _enter(self):
        with open(self.leaf + "/cgroup.procs", "w") as f:
            f.write("0")

    def _phases(self, submission):
        for name in ("prepare", "run", "score"):
            if name in self.conf:
                program, *words = self.conf[name].split()
                yield {"name": name, "argv": [os.path.join(self.evaluator, program), *words, submission]}

    def run(self, submission, wall_usec=100000000):
        """The box and its result; box.output is the folder with the unpacked result."""
        box = boxes.Box(self.base, self.groups)
        shutil.rmtree(box.submission)
        shutil.copytree(submission, box.submission, symlinks=True)
        limits = {"wall_usec": wall_usec, "memory_bytes": _size(self.conf["memory"]), "pids": int(self.conf["pids"]),
                  "disk_bytes": _size(self.conf["disk"])}
        isolation = {"level": "sandbox", "reference": self.conf.get("reference", []),
                     "data": self.conf.get("submission") == "data"}
        box.write_spec("/bin/true", limits=limits, isolation=isolation, env=self.conf.get("env", []))
        path = os.path.join(box.dir, "spec.json")
        with open(path) as f:
            spec = json.load(f)
        with open(path, "w") as f:
            json.dump({**spec, "phases": list(self._phases(box.submission))}, f)
        for top, folders, files in os.walk(self.base):
            for name in [top, *(os.path.join(top, n) for n in folders + files)]:
                os.lchown(name, self.uid, self.uid)
        drop = ("/usr/bin/setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--inh-caps=-all") if self.uid else ()
        box.process = subprocess.Popen([*drop, boxes.KEEPER, box.dir], stdin=subprocess.DEVNULL, preexec_fn=self._enter, env={}, cwd="/")
        try:
            result = box.wait(150)
        finally:
            box.stop()
        assert not box.cgroup_dirs()
        box.output = tempfile.mkdtemp(dir=self.base)
        packed = os.path.join(box.sealed, "result.tar.zst")
        if os.path.exists(packed):
            subprocess.run(["tar", "--zstd", "-xf", packed, "-C", box.output], check=True)
        return box, result

    def close(self):
        for d in self._made:
            os.rmdir(d)
        shutil.rmtree(self.base)
