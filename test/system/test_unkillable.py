# SPDX-License-Identifier: MIT
"""Jobs that SIGKILL does not end, for real: they read a file whose server never answers (lib/hangfs.py)."""
import json
import os

import pytest

from lib import ids, processes
from lib.boxes import Box
from lib.folder import Site
from lib.hangfs import HangFs
from lib.wait import stays, wait_for
from test_box import messages
from test_gpu_jobs import GROUPS

pytestmark = pytest.mark.needs("root", "fuse")

LIMITS = 'wall_limit = "1s"\nmemory = "64M"\npids = 20\ndisk = "16M"\n'

HOLD = """#!/bin/sh
echo $ZR_EVALUATION_ID >>{0}/runs
while [ ! -e {0}/go-$ZR_EVALUATION_ID ]; do sleep 0.05; done
"""


def readers(hang):
    """Processes that wait without regard to signals, for this file."""
    return [p for p in processes.all_ids() if processes.state(p) == "D" and hang.path in (processes.command(p) or "")]


def test_told_after_the_bound_and_gone_with_its_cause(tmp_path):
    def body():
        hang = HangFs(tmp_path / "hang")
        box = Box(tmp_path, GROUPS)
        box.start(f"cat {hang.path}", limits={"wall_usec": 1000000})
        with box.connect(60) as s:
            hang.wait_read()
            assert messages(s)[-1] == {"t": "end", "spare": False, "ready": False}
        r = box.result()
        assert (r["reason"], r["root_hash"]) == ("infrastructure", None)
        assert r["detail"] == "unkillable: a process of the job is still there 10 s after SIGKILL"
        assert box.process.poll() is None and len(readers(hang)) == 1
        hang.close()
        assert box.process.wait(60) == 0 and not box.cgroup_dirs()
    ids.in_own_world(body)


def phases(site):
    """What the worker says it holds: its file in the channel, which is its beat."""
    found = []
    for name in site.names("workers"):
        with open(site.path("workers", name)) as f:
            found += [(j["evaluation"], j["phase"]) for j in json.load(f)["jobs"]]
    return found


def runs(site):
    try:
        with open(os.path.join(site.dir, "runs")) as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def go(site, evaluation):
    open(os.path.join(site.dir, f"go-{evaluation}"), "w").close()


def test_its_place_alone_is_withdrawn_and_comes_back(tmp_path):
    """A worker of two places: one more evaluation runs while the first one does not die, and two when it has."""
    def body():
        site = Site(infrastructure_retries=0)
        os.chmod(site.dir, 0o755)
        hang = HangFs(tmp_path / "hang")
        try:
            site.evaluator("stuck", f"#!/bin/sh\ncat {hang.path}\n", conf=LIMITS)
            site.evaluator("hold", HOLD.format(site.dir))
            worker = site.host("oberon").start("-w", 1, "--prefetch-count", 2)
            site.submit(1, "stuck")
            hang.wait_read()
            end = site.wait_end(1, 60)
            assert end["body"]["reason"] == "infrastructure" and end["body"]["detail"].startswith("unkillable")
            worker.wait_log("evaluation 1 is still there: its place, one of 2, is withdrawn")
            wait_for(lambda: ("1", "unkillable") in phases(site), 60, "the beat to say so")
            site.submit(2, "hold")
            site.submit(3, "hold")
            wait_for(lambda: len(runs(site)) == 1, 60, "one of them to run")
            stays(lambda: len(runs(site)) == 1 and len(site.names("requests")) == 1, 2, "one place is left")
            go(site, runs(site)[0])
            wait_for(lambda: len(runs(site)) == 2, 60, "the other one to run")
            site.submit(4, "hold")
            hang.close()
            worker.wait_log("its place is free", 60)
            wait_for(lambda: len(runs(site)) == 3, 60, "both places to be used")
            for n in (2, 3, 4):
                go(site, n)
                assert site.wait_end(n)["body"]["reason"] == "ok"
            assert len(site.ends(1)) == 1
            worker.stop()
        finally:
            hang.close()
            site.close()
    ids.in_own_world(body)
