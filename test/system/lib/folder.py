# SPDX-License-Identifier: MIT
"""A directory channel and its workers, with no server at all: what zr-channel(7) says, from a stranger's side."""
import json
import os
import shutil
import tempfile
import time
import uuid

from lib import processes
from lib.daemon import Daemon
from lib.sealed import seal
from lib.services import BUILD
from lib.wait import wait_for


def stamp():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def put(folder, name, data):
    """As a requester does: written beside, then renamed."""
    temp = os.path.join(folder, f".{name}.tmp")
    with open(temp, "wb") as f:
        f.write(data if isinstance(data, bytes) else json.dumps(data).encode())
    os.rename(temp, os.path.join(folder, name))


class Host:
    """One eval host: a state folder and settings of its own."""

    def __init__(self, site, name, **settings):
        self.site, self.name = site, name
        self.dir = os.path.join(site.dir, name)
        self.state = os.path.join(self.dir, "state")
        os.makedirs(self.state)
        self.conf = os.path.join(self.dir, "zr.conf")
        values = {"hostname": name, "state_dir": self.state, "run_dir": os.path.join(self.dir, "run"), "bin_dir": site.bin,
                  "gpu_lock_dir": os.path.join(self.dir, "gpu"), **site.settings, **settings}
        with open(self.conf, "w") as f:
            f.writelines(f"{k} = {json.dumps(v) if isinstance(v, str) else v}\n" for k, v in values.items())
        self.env = {"PATH": "/usr/bin:/bin", "HOME": self.dir, "ZR_CONF": self.conf,
                    **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}

    def start(self, *args, ready=True, **env):
        argv = [os.path.join(BUILD, "zr"), "worker:run:eval", *map(str, args or ("-w", 1, "--prefetch-count", 2)),
                "--channel", "dir:" + self.site.channel]
        daemon = Daemon(self.name, argv, {**self.env, **env}, os.path.join(self.dir, "log"), self.dir)
        self.site.daemons.append(daemon)
        return daemon.wait_ready() if ready else daemon


class Site:
    def __init__(self, **settings):
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="zr-channel."))
        self.bin, self.channel = os.path.join(self.dir, "bin"), os.path.join(self.dir, "shared")
        os.mkdir(self.bin)
        self.settings, self.daemons = settings, []
        self.submission = seal(os.path.join(self.dir, "sub"), {"answer": b"hello"}, name="submission")

    def host(self, name, **settings):
        return Host(self, name, **settings)

    def script(self, name, text):
        path = os.path.join(self.bin, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o755)

    def evaluator(self, name, script, conf=None):
        """A program, or with `conf` a folder with settings of its own."""
        if conf is not None:
            os.mkdir(os.path.join(self.bin, name))
            with open(os.path.join(self.bin, name, "evaluator.conf"), "w") as f:
                f.write(f'run = "run"\n{conf}')
            name += "/run"
        self.script(name, script)

    def path(self, *names):
        return os.path.join(self.channel, *names)

    def names(self, *folder):
        path = self.path(*folder)
        return sorted(n for n in os.listdir(path) if not n.startswith(".")) if os.path.isdir(path) else []

    def request(self, evaluation, evaluator, **more):
        return {"zr": "1.0", "type": "request", "id": str(uuid.uuid4()), "evaluation": str(evaluation),
                "submission": {"id": "s1", "digest": self.submission.root, "source": "file://" + self.submission.dir},
                "evaluator": evaluator, "created_at": stamp(), **more}

    def submit(self, evaluation, evaluator, name=None, **more):
        os.makedirs(self.path("requests"), exist_ok=True)
        put(self.path("requests"), name or f"{evaluation}.json", self.request(evaluation, evaluator, **more))

    def cancel(self, evaluation):
        put(self.path("control"), f"{uuid.uuid4()}.json",
            {"zr": "1.0", "type": "control", "kind": "cancel", "evaluation": str(evaluation), "by": "ann", "at": stamp()})

    def events(self, evaluation=None, *kinds):
        found = []
        for name in self.names("events"):
            with open(self.path("events", name)) as f:
                found.append(json.load(f))
        return [e for e in found if (evaluation is None or e["evaluation"] == str(evaluation)) and (not kinds or e["kind"] in kinds)]

    def ends(self, evaluation=None):
        return self.events(evaluation, "completed", "failed", "canceled")

    def wait_end(self, evaluation, timeout=30, n=1):
        return wait_for(lambda: len(e := self.ends(evaluation)) >= n and e, timeout, f"{n} ends of evaluation {evaluation}")[-1]

    def claims(self):
        """What workers hold, without what they know of attempts that are over."""
        return [os.path.join(w, n) for w in self.names("claimed") for n in self.names("claimed", w) if not n.endswith(".over")]

    def close(self):
        for daemon in self.daemons:
            daemon.close()
        processes.end_all(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
