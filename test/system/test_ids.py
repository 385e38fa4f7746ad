# SPDX-License-Identifier: MIT
"""Process ids that come round: a stranger has the id that was a keeper's, a worker's or a job's, and nothing happens to it."""
import json
import os
import signal
import subprocess

import pytest

from lib import ids, processes
from lib.boxes import Box
from lib.fakegpu import uuid
from lib.folder import Site
from lib.services import BUILD
from lib.wait import wait_for
from test_gpu_jobs import GROUPS, GpuBox, hold

pytestmark = pytest.mark.skipif(not ids.possible(), reason="needs root, and Linux 6.14 for a largest id of its own")

# A child and a grandchild that has lost its parent; the second attempt ends at once.
HOLD = """#!/bin/sh
[ "$ZR_ATTEMPT" = 1 ] || exit 0
sleep 1000 & echo $! >{0}/child
(setsid sleep 1000 & echo $! >{0}/grandchild)
echo $$ >{0}/leader.tmp; mv {0}/leader.tmp {0}/leader
wait
exec sleep 1000
"""


def number(path):
    def there():
        try:
            with open(path) as f:
                return f.read().endswith("\n")
        except OSError:
            return False
    wait_for(there, 60, path)
    with open(path) as f:
        return int(f.read())


def gone(pid):
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 60, f"process {pid} to go")


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    gone(pid)


def world(body, *args):
    ids.in_own_world(lambda: body(*args))


# --- a keeper and its job ---

@pytest.mark.parametrize("groups", [pytest.param(GROUPS, id="cgroup", marks=pytest.mark.skipif(not GROUPS, reason="no writable cgroup v2")),
                                    pytest.param({}, id="bare")])
@pytest.mark.parametrize("end", ["limit", "cancel", "keeper"])
def test_ids_of_a_job_that_are_a_strangers_by_then(tmp_path, groups, end):
    """What the job started has ended, the job itself has not: its limit, a cancel, the death of its keeper."""
    def body():
        box = Box(tmp_path, groups)
        box.start(f"sleep 1000 & echo $! >{box.base}/child; echo $$ >{box.base}/leader; wait; read -r <$ZR_SUBMISSION/go",
                  limits={"wall_usec": 3000000 if end == "limit" else 60000000})
        os.mkfifo(box.submission + "/go")
        child, leader = box.pid("child"), box.pid("leader")
        kill(child)
        there = [ids.Bystander(child, "sleep", tmp_path)]
        if end == "keeper":
            box.process.kill()
            box.process.wait()
            gone(leader)
            there += [ids.Bystander(box.process.pid, "zr-box", tmp_path), ids.Bystander(leader, "bash", tmp_path)]
            wait_for(box.remove_groups, 60, "the groups to be empty")
        else:
            if end == "cancel":
                box.say(t="cancel")
            assert box.wait(60)["reason"] == {"limit": "wall-limit", "cancel": "canceled"}[end]
        for b in there:
            b.check()
    world(body)


@pytest.mark.skipif(not GROUPS, reason="no writable cgroup v2")
def test_an_id_that_changes_hands_between_the_look_and_the_signal(tmp_path):
    """The keeper has read who is in the group, and is stopped before it tells them to end."""
    def body():
        box = Box(tmp_path, GROUPS)
        os.mkfifo(box.submission + "/go")
        look = os.path.join(GROUPS["v2"], "zr-" + box.id, "cgroup.procs")
        stop = ("strace", "-qq", "-o", str(tmp_path / "strace"), "-P", look, "-e", "trace=read", "-e", "inject=read:signal=STOP:when=1")
        box.start(f"sleep 1000 & echo $! >{box.base}/child; wait; echo ended >{box.base}/ended; read -r <$ZR_SUBMISSION/go", wrapper=stop)
        child = box.pid("child")
        keeper, = processes.children(box.process.pid)
        box.say(t="cancel")
        wait_for(lambda: processes.state(keeper) in "tT", 60, "the keeper to be stopped")
        kill(child)
        assert box.file("ended") == "ended"
        there = ids.Bystander(child, "sleep", tmp_path)
        os.kill(keeper, signal.SIGCONT)
        assert box.wait(60)["reason"] == "canceled"
        there.check()
    world(body)


def test_a_record_of_a_gpu_with_the_id_of_a_stranger(tmp_path):
    """Who holds a GPU stands in the file of its lock; that keeper is killed."""
    def body():
        first = hold(lambda: GpuBox(tmp_path, GROUPS))
        with open(first.lock()) as f:
            assert json.load(f)["pid"] == first.process.pid
        first.process.kill()
        first.process.wait()
        there = ids.Bystander(first.process.pid, "zr-box", tmp_path)
        second = GpuBox(tmp_path, GROUPS)
        assert second.run("echo $ZR_GPUS")["reason"] == "ok" and second.read("out.log").decode() == uuid(1) + "\n"
        with open(f"{first.locks}/gpu_{uuid(1)}.quarantine", "w") as f:
            f.write("leftover: 2 processes")
        settings = tmp_path / "zr.conf"
        settings.write_text(f'gpu_lock_dir = "{first.locks}"\nstate_dir = "{tmp_path}/state"\n')
        subprocess.run([os.path.join(BUILD, "zr"), "gpus:release", uuid(1)], env={"ZR_CONF": str(settings)}, check=True, timeout=60)
        assert GpuBox(tmp_path, GROUPS).run("true")["reason"] == "ok"
        there.check()
    world(body)


# --- a worker ---

def on_site(tmp_path, body):
    """body(site, host) in a world of its own."""
    def all_of_it():
        site = Site(retry_delay="0s")
        try:
            site.evaluator("hold", HOLD.format(site.dir))
            body(site, site.host("oberon"))
        finally:
            site.close()
    world(all_of_it)


def held(site):
    """Ids of the attempt that is held, in the order leader, child, grandchild."""
    return [number(os.path.join(site.dir, name)) for name in ("leader", "child", "grandchild")]


def keeper_of(leader):
    return processes.parent(leader)


@pytest.mark.parametrize("groups", [True, False], ids=["cgroup", "bare"])
def test_all_that_a_dead_worker_had_is_a_strangers(tmp_path, groups):
    """Supervisor, worker, keeper and job are killed; the next worker finds what they left, of which one process lives."""
    def body(site, host):
        if not groups:
            ids.hide("/sys/fs/cgroup")
        worker = host.start("-w", 1, "--prefetch-count", 1)
        site.submit(1, "hold")
        leader, child, grandchild = held(site)
        keeper, (second,) = keeper_of(leader), processes.children(worker.pid)
        names = {pid: processes.comm(pid) for pid in (worker.pid, second, keeper, leader, child)}
        worker.kill_group()
        kill(child)
        kill(keeper)
        there = []
        for pid, name in names.items():
            gone(pid)
            there.append(ids.Bystander(pid, name, tmp_path))
        assert processes.alive(grandchild)
        worker = host.start("-w", 1, "--prefetch-count", 1)
        site.wait_end(1, n=2)
        ends = sorted(site.ends(1), key=lambda e: e["attempt"])
        assert [(e["attempt"], e["body"]["reason"]) for e in ends] == [(1, "lost"), (2, "ok")]
        gone(grandchild)
        worker.stop()
        for b in there:
            b.check()
    on_site(tmp_path, body)


@pytest.mark.parametrize("then", ["cancel", "drain"])
def test_an_adopted_keeper_whose_id_is_a_strangers(tmp_path, then):
    """It is no child of the worker that has adopted it, which is stopped meanwhile."""
    def body(site, host):
        worker = host.start("-w", 1, "--prefetch-count", 1)
        site.submit(1, "hold")
        leader, _, grandchild = held(site)
        worker.kill_group()
        keeper = keeper_of(leader)
        worker = host.start("-w", 1, "--prefetch-count", 1)
        worker.wait_log("adopting evaluation")
        second, = processes.children(worker.pid)
        os.kill(second, signal.SIGSTOP)
        kill(keeper)
        gone(leader)
        there = ids.Bystander(keeper, "zr-box", tmp_path)
        if then == "cancel":
            site.cancel(1)
        else:
            worker.signal(signal.SIGTERM)
        os.kill(second, signal.SIGCONT)
        assert site.wait_end(1)["body"]["reason"] in ("lost", "canceled")
        gone(grandchild)
        if then == "cancel":
            worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        there.check()
    on_site(tmp_path, body)


def test_the_supervisors_child_whose_id_is_a_strangers(tmp_path):
    def body(site, host):
        worker = host.start("-w", 2, "--prefetch-count", 1)
        first = processes.children(worker.pid)[0]
        kill(first)
        there = ids.Bystander(first, "zr-eval", tmp_path)
        wait_for(lambda: len(processes.children(worker.pid)) == 2, 60, "another worker")
        worker.signal(signal.SIGHUP)
        worker.wait_log("read again from")
        worker.stop()
        there.check()
    on_site(tmp_path, body)


def test_copies_in_the_cache_whose_worker_has_the_id_of_a_stranger(tmp_path):
    """What a killed worker was copying or removing goes with the next one, although somebody has its id; what the living do stays."""
    def body(site, host):
        def copy(kind, pid, since):
            path = os.path.join(host.state, "cache", f".{kind}-{pid}.{since}-{'0' * 64}")
            os.makedirs(os.path.join(path, "files"))
            return path
        worker = host.start("-w", 1, "--prefetch-count", 1)
        second, = processes.children(worker.pid)
        since = processes.since(second)
        worker.kill_group()
        gone(second)
        left = [copy("fresh", second, since), copy("gone", second, since)]
        used = copy("fresh", os.getpid(), processes.since(os.getpid()))
        there = ids.Bystander(second, "zr-eval", tmp_path)
        worker = host.start("-w", 1, "--prefetch-count", 1)
        assert not [p for p in left if os.path.exists(p)] and os.path.exists(used)
        worker.stop()
        there.check()
    on_site(tmp_path, body)
