# SPDX-License-Identifier: MIT
"""Attempts that fail are followed by others, through all programs: the eval host says what its evaluator allows, zr-update asks
for the next attempt, the leader sends the request."""
import os
import re
import signal

import pytest

from lib.wait import wait_for

FLAKY = """#!/bin/sh
if [ "$ZR_ATTEMPT" -lt 2 ]; then echo "not yet"; exit 3; fi
echo '{"score": 1}' >"$ZR_OUTPUT/scores.json"
"""
HOLD = """#!/bin/sh
echo "$ZR_ATTEMPT" >>{folder}/runs
while [ ! -e {folder}/go ]; do sleep 0.05; done
echo '{{"score": 1}}' >"$ZR_OUTPUT/scores.json"
"""


@pytest.fixture
def site(sandbox):
    sandbox.prepare()
    sandbox.setting("retry_delay", "1s")
    return sandbox


def submit(site, evaluator):
    site.zr("challenges:add", evaluator, "--evaluator", evaluator)
    sub = site.zr_id("submissions:create", evaluator, os.path.dirname(site.file("work/answer", "x")), "--author", "ann")
    return site.zr_id("submissions:eval", sub)


def flaky(site, retries):
    site.evaluator("flaky", FLAKY, conf=f"run = run.sh\nretries = {retries}\n")


def test_an_evaluator_allows_another_attempt(site):
    flaky(site, 1)
    site.eval_worker()
    update = site.update_worker()
    shown = site.wait_evaluation(submit(site, "flaky"), "completed")
    assert shown["attempt"] == 2 and shown["scores"] == {"score": 1}
    assert [(a["attempt"], a["status"], a["reason"]) for a in shown["attempts"]] == [(1, "failed", "exit"), (2, "completed", "ok")]
    update.wait_log("attempt 2 will follow")
    wait_for(lambda: site.query("select count(*) from outbox") == [(0,)])
    # Both results are brought here, each to its attempt.
    wait_for(lambda: [a["results"]["state"] for a in site.evaluation(shown["id"])["attempts"]] == ["stored", "stored"])


def test_without_retries_a_failure_is_final(site):
    flaky(site, 0)
    site.eval_worker()
    site.update_worker()
    shown = site.wait_evaluation(submit(site, "flaky"), "failed")
    assert shown["attempt"] == 1 and shown["settled"] and "last of" not in site.zr("evaluations:why", shown["id"]).stdout


def test_what_waits_for_its_next_attempt_says_so_and_can_be_canceled(site):
    site.setting("retry_delay", "10m")
    flaky(site, 1)
    site.eval_worker()
    site.update_worker()
    ident = submit(site, "flaky")
    wait_for(lambda: site.evaluation(ident)["asked_attempt"] == 2, 30)
    said = site.zr("evaluations:why", ident).stdout
    assert re.search(r"is queued\. Attempt 1 ended with 'exit': run exited with status 3\. Attempt 2 follows in 5\d\ds\.$", said), said
    site.zr("evaluations:cancel", ident)
    assert site.evaluation(ident)["status"] == "canceled"
    assert site.query("select count(*) from outbox where evaluation is not null") == [(0,)]


def test_a_killed_keeper_costs_no_attempt_of_the_evaluation(site):
    folder = os.path.dirname(site.file("barrier/x"))
    site.evaluator("hold", HOLD.format(folder=folder))
    site.setting("infrastructure_retries", 1)
    site.eval_worker()
    site.update_worker()
    ident = submit(site, "hold")

    def runs():
        path = os.path.join(folder, "runs")
        return open(path).read().split() if os.path.exists(path) else []

    def kill_keeper():
        keepers = [pid for pid, line in site.processes().items() if line.split(" ")[0].split("/")[-1] == "zr-box"]
        assert keepers, site.processes()
        for pid in keepers:
            os.kill(pid, signal.SIGKILL)

    wait_for(runs, 20)
    kill_keeper()
    wait_for(lambda: runs() == ["1", "2"], 60, "a second attempt")
    kill_keeper()
    shown = site.wait_evaluation(ident, "failed")
    # The second one may have died of what it ran.
    assert (shown["reason"], shown["attempt"]) == ("poison", 2)
    assert site.query("select body->'keeper_died' from event where kind = 'failed'") == [(True,)] * 2
    assert "It was attempt 2, the last of 2." in site.zr("evaluations:why", ident).stdout
    # A person may ask for more, and the faults are counted anew.
    assert site.zr("evaluations:retry", ident).stdout == f"attempt 3 of evaluation {ident}\n"
    wait_for(lambda: runs() == ["1", "2", "3"], 60, "a third attempt")
    kill_keeper()
    wait_for(lambda: runs() == ["1", "2", "3", "4"], 60, "a fourth attempt")
    assert site.evaluation(ident)["status"] == "failed", "the earlier end stands until there is another"
    open(os.path.join(folder, "go"), "w").close()
    assert site.wait_evaluation(ident, "completed")["attempt"] == 4


def leave_in_the_outbox(site, ident):
    """Its first request, as one that nobody has taken out."""
    site.query("insert into outbox (evaluation, exchange, routing_key, message_id, body, created_at) select id, request_exchange, request_key,"
               " gen_random_uuid(), request, now() - interval '1 minute' from evaluation where id = %s returning id", ident)


def test_a_request_that_arrived_is_not_sent_again(site):
    """Who had published it was killed before he could take it out of the outbox."""
    flaky(site, 1)
    worker = site.eval_worker()
    site.update_worker()
    ident = submit(site, "flaky")
    site.wait_evaluation(ident, "completed")
    worker.stop()
    leave_in_the_outbox(site, ident)
    wait_for(lambda: site.query("select count(*) from outbox") == [(0,)])
    assert site.channel().queue_declare("zr.eval.default", passive=True).method.message_count == 0


def test_nor_while_the_attempt_after_it_waits(site):
    """It would run beside that one."""
    site.setting("retry_delay", "10m")
    flaky(site, 1)
    worker = site.eval_worker()
    site.update_worker()
    ident = submit(site, "flaky")
    wait_for(lambda: site.evaluation(ident)["asked_attempt"] == 2, 30)
    worker.stop()
    leave_in_the_outbox(site, ident)
    wait_for(lambda: site.query("select body::json->>'attempt' from outbox") == [("2",)])
    assert site.channel().queue_declare("zr.eval.default", passive=True).method.message_count == 0
