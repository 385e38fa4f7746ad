# SPDX-License-Identifier: MIT
"""Servers that go away while the main job runs: wait, spool, resume; nothing is lost or done twice."""
import json
import os
import shutil
import signal
import subprocess
import urllib.parse

import pytest

from lib.processes import comm
from lib.services import BUILD
from lib.wait import wait_for
from test_job import go, hold, runs, sealed, submit


@pytest.fixture
def site(own_sandbox):
    return own_sandbox.prepare()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_broker_restarts_while_a_job_runs(site, how):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.services.dev(how, "rabbitmq")
    go(folder)
    wait_for(lambda: sealed(site), 20)
    site.services.dev("start", "rabbitmq")
    done = site.wait_evaluation(ident, "completed", timeout=60)
    assert done["attempt"] == 1 and runs(folder) == ["1"]


def test_request_is_kept_while_the_broker_is_away(site):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    one = submit(site, "hold")
    site.services.dev("stop", "rabbitmq")
    ident = site.zr_id("submissions:eval", one)
    assert site.evaluation(ident)["status"] == "created"
    site.services.dev("start", "rabbitmq")
    go(folder)
    assert site.wait_evaluation(ident, "completed", timeout=90)["attempt"] == 1
    assert runs(folder) == ["1"]


def broker_user(site):
    url = urllib.parse.urlsplit(site.env["AMQP_URL"])
    return urllib.parse.unquote(url.path[1:]), url.username


def test_permissions_are_taken_away_and_come_back(site):
    """Neither what ran nor what waits is lost, no process gives up, and when they are back all goes on."""
    vhost, user = broker_user(site)
    folder = hold(site)
    worker = site.eval_worker()
    update = site.update_worker()
    one = submit(site, "hold")
    first, second = (site.zr_id("submissions:eval", one) for _ in range(2))
    wait_for(lambda: runs(folder), 20)
    site.services.rabbitmqctl("set_permissions", "-p", vhost, user, "", "", "")
    go(folder)
    wait_for(lambda: sealed(site), 20)
    worker.wait_log("ACCESS_REFUSED")
    site.services.rabbitmqctl("set_permissions", "-p", vhost, user, ".*", ".*", ".*")
    for ident in (first, second):
        assert site.wait_evaluation(ident, "completed", timeout=60)["attempt"] == 1
    assert runs(folder) == ["1", "1"] and worker.alive() and update.alive()


def test_a_policy_that_changes_the_queues_disturbs_nobody(site):
    vhost, _user = broker_user(site)
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    one = submit(site, "hold")
    first = site.zr_id("submissions:eval", one)
    wait_for(lambda: runs(folder), 20)
    for rule in ({"max-length": 1000}, {"max-length": 500, "delivery-limit": 7}):
        site.services.rabbitmqctl("set_policy", "-p", vhost, "--apply-to", "queues", "mine", "^zr[.]", json.dumps(rule))
    second = site.zr_id("submissions:eval", one)
    go(folder)
    site.services.rabbitmqctl("clear_policy", "-p", vhost, "mine")
    third = site.zr_id("submissions:eval", one)
    for ident in (first, second, third):
        assert site.wait_evaluation(ident, "completed")["attempt"] == 1
    assert runs(folder) == ["1"] * 3


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_database_restarts_while_a_job_ends(site, how):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.services.dev(how, "postgres")
    go(folder)
    wait_for(lambda: sealed(site), 20)
    site.services.dev("start", "postgres")
    done = site.wait_evaluation(ident, "completed", timeout=60)
    assert done["attempt"] == 1 and runs(folder) == ["1"]


def test_empty_results_do_not_need_the_ssh_host(site, own_services):
    folder = hold(site)
    site.evaluator("nothing", f"#!/bin/sh\necho 1 >>{folder}/runs\nwhile [ ! -e {folder}/go ]; do sleep 0.05; done\n")
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "nothing"))
    wait_for(lambda: runs(folder), 20)  # the submission came over SSH
    own_services.stop("sshd")
    go(folder)
    assert site.wait_evaluation(ident, "completed")["reason"] == "ok"
    wait_for(lambda: site.evaluation(ident)["results"]["state"] == "stored", 30)
    assert os.listdir(site.evaluation(ident)["results"]["path"]) == [] and sealed(site) == []
    assert site.zr("evaluations:logs", ident).stdout == ""
    wait_for(lambda: not os.listdir(os.path.join(site.state, "spool", "boxes")), 20, "boxes to be removed")
    own_services.start("sshd")


def test_results_wait_for_the_ssh_host(site):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.services.dev("stop", "sshd")
    go(folder)
    assert site.wait_evaluation(ident, "completed")["results"]["state"] == "pending"
    site.services.dev("start", "sshd")
    wait_for(lambda: site.evaluation(ident)["results"]["state"] == "stored", 60)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace of its own")
def test_claims_survive_a_crash_of_the_host(site):
    """All processes and all that was not synced are gone, and the boot id is another."""
    site.setting("infrastructure_retries", 0)
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    site.evaluator("quick", "#!/bin/sh\nexit 0\n")
    ended = site.zr_id("submissions:eval", submit(site, "quick"))
    site.wait_evaluation(ended, "completed")
    running = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    # Its start came after its claim: the request is acknowledged.
    site.wait_evaluation(running, "running")
    worker.kill_group()
    for pid in site.processes():
        if comm(pid) in ("zr-box", "sh", "sleep", "hold"):
            os.kill(pid, signal.SIGKILL)
    boxes = os.path.join(site.state, "spool/boxes")
    for name in os.listdir(boxes):
        shutil.rmtree(os.path.join(boxes, name))
    other = site.file("boot_id", "00000000-0000-4000-8000-00000000000b\n")
    site.start("/usr/bin/unshare", "-m", "sh", "-c", f"mount --bind {other} /proc/sys/kernel/random/boot_id && exec "
               f"{os.path.join(BUILD, 'zr')} worker:run:eval -w 1", name="second-boot")
    done = site.wait_evaluation(running, "failed")
    assert done["reason"] == "lost" and runs(folder) == ["1"]
    assert site.query("select body ? 'keeper_died' from event where kind = 'failed'") == [(False,)]
    assert site.evaluation(ended)["status"] == "completed"
    wait_for(lambda: not os.listdir(boxes), 20)


@pytest.fixture
def small_disk(site):
    """The state folder on a file system that a job can fill."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48M", "zr-test", site.state], check=True)
    yield site
    for daemon in site._daemons:
        daemon.close()
    subprocess.run(["umount", "-l", site.state], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
def test_disk_filled_by_a_job(small_disk):
    """The end is told once there is room again, which the job's own folders make."""
    site = small_disk
    site.setting("spool_reserve", "1M")
    site.setting("retry_delay", "1s")
    site.evaluator("big", "#!/bin/sh\nhead -c 200M /dev/zero >$ZR_OUTPUT/big\n")
    site.evaluator("small", "#!/bin/sh\necho '{\"score\": 1}' >$ZR_OUTPUT/scores.json\n")
    site.eval_worker()
    site.update_worker()
    done = site.wait_evaluation(site.zr_id("submissions:eval", submit(site, "big")), "failed", timeout=90)
    assert done["reason"] in ("exit", "infrastructure", "disk"), done
    wait_for(lambda: not os.listdir(os.path.join(site.state, "spool/boxes")), 30)
    done = site.wait_evaluation(site.zr_id("submissions:eval", submit(site, "small")), "completed")
    assert done["scores"] == {"score": 1}
