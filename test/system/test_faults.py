# SPDX-License-Identifier: MIT
"""Servers that go away while the main job runs: wait, spool, resume; nothing is lost or done twice."""
import pytest

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
