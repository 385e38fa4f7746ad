# SPDX-License-Identifier: MIT
"""The lease: who is not heard of for so long has lost its work, stops it, and others begin it anew."""
import contextlib
import os
import signal

import pytest

from lib.processes import children, comm
from lib.wait import wait_for
from test_job import go, hold, runs, submit

LEASE = 4


def short(site, *hosts):
    for host in (None, *hosts):
        site.setting("lease", f"{LEASE}s", host=host)
        site.setting("retry_delay", "0s", host=host)
    return site.prepare()


@pytest.fixture
def site(make_own_sandbox):
    return short(make_own_sandbox())


@pytest.fixture
def two_hosts(make_sandbox):
    return short(make_sandbox(hosts=("other",)), "other")


def boxes(site):
    folder = os.path.join(site.state, "spool", "boxes")
    return os.listdir(folder) if os.path.isdir(folder) else []


def end_host(site, worker):
    """Everything of the host is gone at once: worker, keepers, jobs."""
    worker.kill_group()
    for pid in site.processes():
        if comm(pid) in ("zr-box", "sh", "sleep", "hold"):
            os.kill(pid, signal.SIGKILL)


def test_work_of_a_lost_host_is_begun_elsewhere(two_hosts):
    """Without the pause that other retries have: there was a lease of it."""
    site = two_hosts
    site.setting("retry_delay", "10s")
    folder = hold(site)
    first = site.eval_worker("-w", 1, "--prefetch-count", 1)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.wait_evaluation(ident, "running")
    end_host(site, first)
    site.eval_worker(host="other")
    wait_for(lambda: runs(folder) == ["1", "2"], 60, "the second attempt")
    wait_for(lambda: site.query("select queued_at is not null from evaluation") == [(True,)])
    (silent,), = site.query("select extract(epoch from v.queued_at - (e.body->>'silent_since')::timestamptz)::float8"
                            " from evaluation v, event e where e.kind = 'failed'")
    assert LEASE <= silent <= LEASE + 5
    go(folder)
    done = site.wait_evaluation(ident, "completed")
    assert done["attempt"] == 2 and done["host"] == "other"


def test_a_restarted_worker_keeps_its_work(two_hosts):
    site = two_hosts
    folder = hold(site)
    worker = site.eval_worker("-w", 1, "--prefetch-count", 1)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    for _ in range(3):
        worker.kill_group()
        worker = site.eval_worker("-w", 1, "--prefetch-count", 1)
    # Longer than a lease: what nobody had adopted would have ended.
    pass_time(site, 2 * LEASE)
    go(folder)
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1 and runs(folder) == ["1"]


def test_a_broker_that_is_away_for_longer_than_the_lease(site):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.services.dev("stop", "rabbitmq")
    wait_for(lambda: not boxes(site), 30, "the job to be ended by its keeper")
    site.services.dev("start", "rabbitmq")
    wait_for(lambda: runs(folder) == ["1", "2"], 60, "the second attempt")
    go(folder)
    assert site.wait_evaluation(ident, "completed")["attempt"] == 2


def with_workers(supervisor):
    return [supervisor.pid, *(p for p in children(supervisor.pid) if comm(p) in ("zr-eval", "exe"))]


def test_a_frozen_worker_and_its_supervisor_lose_their_work_and_know_it(two_hosts):
    site = two_hosts
    folder = hold(site)
    worker = site.eval_worker("-w", 1, "--prefetch-count", 1)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    frozen = with_workers(worker)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    site.eval_worker(host="other")
    wait_for(lambda: runs(folder) == ["1", "2"], 60, "the second attempt")
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    go(folder)
    done = site.wait_evaluation(ident, "completed")
    assert done["attempt"] == 2 and done["host"] == "other"


def depth(site, what):
    lines = site.services.rabbitmqctl("list_queues", "-q", "-p", "sb." + site.name, "name", what).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("zr.eval.default"))


def test_nothing_begins_before_its_claim_is_known(site):
    """During an alarm of the broker nothing can be published: the request stays where it is."""
    site.setting("lease", "60s")  # a beat that the alarm holds up for longer than the lease is worth nothing
    folder = hold(site)
    go(folder)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: depth(site, "messages_ready") == 1, 20)
    site.services.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        site.eval_worker()
        wait_for(lambda: depth(site, "messages_unacknowledged") == 1 and boxes(site), 30)
        assert runs(folder) == []
    finally:
        site.services.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1 and runs(folder) == ["1"]


def pass_time(site, seconds):
    """By the database's clock: faults that have to last for a time."""
    begin, = site.query("select now()")[0]
    wait_for(lambda: site.query("select now() - %s > interval '1 second' * %s", begin, seconds)[0][0], seconds + 30)


def watermark(site, part):
    """As rabbitmqctl does it, but at once."""
    site.services.erl(f"vm_memory_monitor:set_vm_memory_high_watermark({part}).")


def test_a_claim_that_an_alarm_held_up_for_a_lease_is_told_again(site):
    """The beat with it is the first message that the broker lets wait, and arrives when what it says is over."""
    folder = hold(site)
    go(folder)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: depth(site, "messages_ready") == 1, 20)
    other = site.amqp()
    assert other.channel().basic_get("zr.eval.default")[0]
    site.eval_worker("-w", 1, "--prefetch-count", 1)
    watermark(site, "0.0000001")
    try:
        other.close()
        wait_for(lambda: boxes(site), 30)
        pass_time(site, LEASE + 1)
        assert runs(folder) == []
    finally:
        watermark(site, "0.4")
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1 and runs(folder) == ["1"]


def keeper_of_job(site):
    """The parent of the one job that runs."""
    for pid in site.processes():
        if comm(pid) == "hold":
            with open(f"/proc/{pid}/stat") as f:
                return int(f.read().rpartition(")")[2].split()[1])
    return None


def test_what_kills_its_keepers_is_not_begun_a_third_time(site):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    for attempt in ("1", "2"):
        wait_for(lambda: runs(folder)[-1:] == [attempt], 30)
        os.kill(wait_for(lambda: keeper_of_job(site), 20), signal.SIGKILL)
    done = site.wait_evaluation(ident, "failed")
    assert done["reason"] == "poison" and done["attempt"] == 2 and runs(folder) == ["1", "2"]
    assert "took its keeper down" in site.zr("evaluations:why", ident).stdout


def holder(box):
    """The process that has the folder of a box open."""
    def has_it(pid):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}").endswith("/" + box):
                        return True
        return False
    return has_it


def test_a_claim_that_another_worker_made_is_not_taken_for_ones_own(site):
    """A worker is killed before its claim was known. The request goes to its neighbour, and the box that was left is of no use."""
    folder = hold(site)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: depth(site, "messages_ready") == 1, 20)
    site.services.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        supervisor = site.eval_worker("-w", 2, "--prefetch-count", 1)
        first, = wait_for(lambda: boxes(site), 30)
        os.kill(supervisor.pid, signal.SIGSTOP)
        owner, = filter(holder(first), site.processes())
        os.kill(owner, signal.SIGKILL)
        wait_for(lambda: len(boxes(site)) == 2, 30, "the neighbour's claim")
    finally:
        site.services.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    wait_for(lambda: runs(folder) == ["1"], 30)
    os.kill(supervisor.pid, signal.SIGCONT)
    wait_for(lambda: first not in boxes(site), 30, "the box without a claim to be removed")
    assert runs(folder) == ["1"]
    go(folder)
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1 and runs(folder) == ["1"]


def segments(site, worker):
    folder = os.path.join(site.state, "spool/events", str(worker))
    return [n for n in os.listdir(folder) if n.endswith(".seg")]


def test_a_note_is_forgotten_whoever_adopted_its_box(site):
    """It is in the spool of one worker, and another one was quicker."""
    folder = hold(site)
    site.update_worker()
    first = site.eval_worker("-w", 1, "--prefetch-count", 1)
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.wait_evaluation(ident, "running")
    first.kill_group()
    spool = os.path.join(site.state, "spool/events/")
    os.rename(spool + "1", spool + "../hidden")
    site.eval_worker("-w", 1, "--prefetch-count", 1)
    os.rename(spool + "../hidden", spool + "2")
    # Its worker 1 cannot have the spool, and is tried again and again.
    second = site.eval_worker("-w", 2, "--prefetch-count", 1, ready=False)
    second.wait_log("connected to the broker")
    assert segments(site, 2)
    go(folder)
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1
    wait_for(lambda: not segments(site, 2), 20, "the note to be forgotten")
    second.kill_group()
