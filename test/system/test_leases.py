# SPDX-License-Identifier: MIT
"""Who is lost, and what becomes of what it held: the rules in the database, and zr-update with workers that are only messages."""
import datetime
import itertools
import json
import os
import random
import re
import threading

import pika
import pytest

from lib import store
from lib.sandbox import Sandbox
from lib.wait import wait_for

REQUEST = {"zr": "1.0", "type": "request", "id": "x", "attempt": 1, "created_at": "x", "evaluator": "hello", "priority": "normal"}
BOOT = "018f0000-0000-7000-8000-0000000000b0"


@pytest.fixture(scope="module")
def shared(services):
    box = Sandbox(services, f"leases-{os.getpid()}")
    try:
        box.zr("db:migrate")
        store.challenge(box)
        store.submission(box)
        yield box
    finally:
        box.close()


class Time:
    """The database's clock, stepped by hand: the tables are made to look as they would have so many seconds ago."""

    def __init__(self, sandbox):
        self.db = sandbox
        self.cursor = sandbox.db().cursor()
        self.run("set synchronous_commit = off")
        self.run("delete from worker")
        self.run("delete from listener")
        self.run("delete from listening")

    def run(self, sql, *args):
        self.cursor.execute(sql, args or None)
        return self.cursor.fetchall() if self.cursor.description else []

    def step(self, seconds):
        """Nothing is heard for so long."""
        ago = f"{seconds} * interval '1 second'"
        self.run(f"update worker set heard_at = heard_at - {ago}, seen_at = seen_at - {ago}")
        self.run(f"update listener set clear_at = clear_at - {ago}, seen_at = seen_at - {ago}")
        self.run(f"update listening set since = since - {ago}, sent_at = sent_at - {ago}")

    def tick(self, name="up/1"):
        self.run("insert into listener (name, clear_at) values (%s, now()) on conflict (name) do update"
                 " set clear_at = now(), seen_at = now()", name)
        self.run("select heard_tick(now())")

    def listen(self, seconds):
        """So long, with ticks."""
        while seconds > 0:
            self.tick()
            self.step(min(8, seconds))
            seconds -= 8
        self.tick()

    def beat(self, worker, *jobs, lease=60, second=0, state=None, **more):
        body = {"state": state or ("busy" if jobs else "idle"),
                "jobs": [dict({"evaluation": str(e), "attempt": a, "attempt_id": i, "phase": "run"}) for e, a, i in jobs], **more}
        if lease:
            body["lease_usec"] = lease * 1000000
        self.run("select heard_worker(%s, %s, %s, %s)", worker, worker.split("/")[0], store.at(second), json.dumps(body))

    def audit(self, **kw):
        rows = self.run("select evaluation, attempt, again, detail, ended from audit_leases(p_limit => %s)", kw.get("limit", 500))
        return [r[:3] for r in rows]

    def apply(self, *events):
        return self.run("select answer, ended, again from apply_events(%s)", json.dumps(events))


@pytest.fixture
def time(shared):
    return Time(shared)


def fresh(time, n=1, **kw):
    return store.evaluations(time.db, n, request=kw.pop("request", REQUEST), **kw)


def own_end(evaluation, reason="ok", seq=10**12, **kw):
    """As a worker tells it: with a number that is the same whoever tells it."""
    return dict(store.end(evaluation, 2, reason, **kw), seq=seq)


def state(time, ident):
    return store.outcome(time.db, ident)[:3]


def test_a_silent_worker_loses_what_it_holds(time):
    begun, claimed, done, other = fresh(time, 4)
    a, b, c, d = (store.attempt_id() for _ in range(4))
    time.apply(store.started(begun, ident=a), *store.history(done, ident=c), store.started(other, ident=d, host="titania"))
    time.tick()
    time.beat("oberon/1", (begun, 1, a), (claimed, 1, b), (done, 1, c))
    time.beat("titania/1", (other, 1, d))
    time.listen(44)
    assert time.audit() == [] and state(time, begun) == ("running", None, 1)
    time.beat("titania/1", (other, 1, d), second=44)
    time.listen(20)
    assert time.audit() == [(begun, 1, 2), (claimed, 1, 2)]
    assert state(time, begun) == ("queued", None, 1) and state(time, claimed) == ("queued", None, 1)
    assert state(time, done)[:2] == ("completed", "ok") and state(time, other)[:2] == ("running", None)
    assert time.audit() == [], "once"
    row, = time.db.evaluation(claimed)["attempts"]
    assert (row["attempt_id"], row["status"], row["reason"], row["worker"]) == (b, "failed", "lost", "oberon/1")
    assert re.fullmatch(r"worker oberon/1 was not heard of for 6\d s \(since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\)", row["detail"])
    assert time.db.query("select count(*) from outbox where evaluation = any(%s)", [begun, claimed]) == [(2,)]


def test_without_a_lease_nobody_is_lost(time):
    """A worker of before; one that left with nothing; one that is no eval worker; one whose words nobody checked."""
    idents = fresh(time, 5)
    jobs = [(i, 1, store.attempt_id()) for i in idents]
    time.apply(*(store.started(i, ident=a, host=f"h{n}") for n, (i, _, a) in enumerate(jobs)))
    time.tick()
    time.beat("h0/1", jobs[0], lease=0)
    time.beat("h1/1", lease=60, state="gone")
    time.beat("h2/1", jobs[2], role="gardener")
    time.beat("h3/1", jobs[3], lease=0, lease_usec="60s")
    time.beat("h4/1", jobs[4], lease=0, lease_usec=-5)
    time.listen(300)
    assert time.audit() == []
    assert {state(time, i)[0] for i in idents} == {"running"}
    # One that left while its boxes ran has its lease too.
    time.beat("h1/1", jobs[1], state="gone", second=300)
    time.listen(62)
    assert time.audit() == [(idents[1], 1, 2)]


def test_odd_lists_stop_nothing(time):
    good, = fresh(time)
    a = store.attempt_id()
    time.tick()
    time.run("select heard_worker('odd/1', 'odd', %s, %s)", store.at(0), json.dumps({"state": "busy", "lease_usec": 5000000, "jobs": [
        7, "x", {}, {"evaluation": "e-4", "attempt": 1, "attempt_id": a}, {"evaluation": "999999", "attempt": 1, "attempt_id": a},
        {"evaluation": str(good), "attempt": "y", "attempt_id": a}, {"evaluation": str(good), "attempt": 1, "attempt_id": "zz"},
        {"evaluation": str(good), "attempt": 0, "attempt_id": a}, {"evaluation": str(good), "attempt": 1, "attempt_id": a}]}))
    time.run("select heard_worker('odd/2', 'odd', %s, %s)", store.at(0), json.dumps({"state": "busy", "lease_usec": 5000000, "jobs": 5}))
    time.listen(8)
    assert time.audit() == [(good, 1, 2)]


def test_a_gap_in_the_ticks_is_nobodys_fault(time):
    """No broker, or no update worker: who was silent then has a whole lease from the first tick on."""
    ident, = fresh(time)
    a = store.attempt_id()
    time.tick()
    time.beat("oberon/1", (ident, 1, a))
    time.listen(40)
    time.step(300)
    assert time.audit() == []
    time.tick()
    assert time.audit() == []
    time.listen(40)
    assert time.audit() == []
    time.listen(24)
    assert time.audit() == [(ident, 1, 2)]


def test_ticks_that_say_nothing(time):
    """Repeated, overtaken, from the future: the newest that is true counts."""
    time.tick()
    time.listen(20)
    before = time.run("select since, sent_at from listening")
    for when in ("now() - interval '10 seconds'", "now() + interval '1 hour'"):
        time.run(f"select heard_tick({when})")
        assert time.run("select since, sent_at from listening") == before
    # The clock was set back: begun anew.
    time.run("update listening set since = since + interval '1 hour', sent_at = sent_at + interval '1 hour'")
    time.run("select heard_tick(now())")
    assert time.run("select since = sent_at, sent_at <= now() from listening") == [(True, True)]
    # It was set forward.
    time.step(3600)
    time.run("select heard_tick(now())")
    assert time.run("select since = sent_at from listening") == [(True,)]


def test_a_stuck_update_worker_may_hold_the_message_that_counts(time):
    ident, = fresh(time)
    time.tick("stuck/1")
    time.beat("oberon/1", (ident, 1, store.attempt_id()))
    for _ in range(10):
        time.listen(8)
        time.run("update listener set seen_at = now() where name = 'stuck/1'")
    assert time.audit() == [], "it is there and cannot say that it is done"
    time.listen(40)
    assert time.audit() == [] and len(time.run("select name from listener")) == 2
    time.listen(24)
    assert time.audit() == [] and time.run("select name from listener") == [("up/1",)]
    time.listen(40)
    assert time.audit() == [], "what it gave back has a lease more to come"
    time.listen(24)
    assert time.audit() == [(ident, 1, 2)]


def test_who_is_heard_of_again_lives(time):
    one, two = fresh(time, 2)
    a, b = store.attempt_id(), store.attempt_id()
    time.tick()
    time.beat("oberon/1", (one, 1, a))
    time.listen(62)
    assert time.audit() == [(one, 1, 2)]
    time.beat("oberon/1", (one, 1, a), (two, 1, b), second=62)
    time.listen(10)
    assert time.audit() == []
    # What it comes to after all counts, though another attempt was asked for.
    time.apply(*store.history(one, ident=a, scores={"x": 1}))
    assert state(time, one) == ("completed", "ok", 1)
    time.listen(62)
    assert time.audit() == [(two, 1, 2)]


def test_a_clock_that_was_set_back_silences_nobody(time):
    ident, = fresh(time)
    a = store.attempt_id()
    time.tick()
    time.beat("oberon/1", (ident, 1, a), second=3600, lease=30)
    for n in range(8):
        time.listen(8)
        time.beat("oberon/1", (ident, 1, a), second=n * 8, lease=30)
        assert time.audit() == []
    assert time.run("select at < now() from worker")


def test_what_another_worker_took_over_is_its_own(time):
    ident, = fresh(time)
    a = store.attempt_id()
    time.apply(store.started(ident, ident=a, worker="oberon/2"))
    time.tick()
    time.beat("oberon/2", (ident, 1, a))
    time.listen(40)
    time.beat("oberon/1", (ident, 1, a), second=40)
    time.listen(40)
    assert time.audit() == []
    time.listen(30)
    assert time.audit() == [(ident, 1, 2)]
    assert time.db.evaluation(ident)["attempts"][0]["worker"] == "oberon/1", "who had it last"


def test_what_is_over_stays_as_it_is(time):
    """Canceled; asked for again by hand; ended by a later attempt."""
    canceled, by_hand, later = fresh(time, 3)
    a, b, c, d = (store.attempt_id() for _ in range(4))
    time.apply(store.started(canceled, ident=a), store.end(by_hand, 2, "exit"), store.started(later, ident=c),
               *store.history(later, ident=d, attempt=2))
    time.run("select was from cancel_evaluation(%s, 'me', 'zr', 'control.cancel', gen_random_uuid(), '{}')", canceled)
    body = json.dumps(dict(REQUEST, attempt=2))
    assert time.run("select accepted from retry_evaluation(%s, 2, 'zr', 'k', gen_random_uuid(), %s)", by_hand, body) == [(True,)]
    time.apply(store.started(by_hand, ident=b, attempt=2))
    time.tick()
    time.beat("oberon/1")
    time.listen(62)
    assert time.audit() == [(by_hand, 2, 3)]
    assert state(time, canceled)[:2] == ("canceled", "canceled") and state(time, by_hand) == ("failed", "exit", 1)
    time.beat("oberon/1", (canceled, 1, a), (later, 1, c), second=62)
    time.listen(62)
    assert time.audit() == [(canceled, 1, None), (later, 1, None)]
    assert state(time, canceled)[:2] == ("canceled", "canceled") and state(time, later)[:2] == ("completed", "ok")


def test_retries_of_lost_hosts_have_their_count(time):
    ident, = fresh(time)
    for n in range(1, 5):
        time.tick()
        time.beat("oberon/1", (ident, n, store.attempt_id()), second=n * 100)
        time.listen(62)
        assert time.audit() == [(ident, n, n + 1 if n < 4 else None)]
    assert state(time, ident) == ("failed", "lost", 4)


def test_many_are_ended_in_parts(time):
    idents = fresh(time, 25)
    time.tick()
    time.beat("oberon/1", *((i, 1, store.attempt_id()) for i in idents))
    time.listen(62)
    parts = [time.audit(limit=10) for _ in range(4)]
    assert [len(p) for p in parts] == [10, 10, 5, 0]
    assert [r[0] for p in parts for r in p] == idents


def test_every_order_of_words_and_judgement(time):
    """The end by the audit, the worker's own `lost`, its start and its real end, repeated, in every order: one outcome."""
    a = store.attempt_id()
    words = ["audit", "start", "lost", "end"]
    for kinds in (words, words[:3], words[:2] + ["end"]):
        for order in itertools.permutations(kinds):
            ident, = fresh(time)
            said = {"start": store.started(ident, 1, ident=a), "end": own_end(ident, seq=10**12 - 5, ident=a),
                    "lost": own_end(ident, "lost", ident=a)}
            said["lost"]["body"]["keeper_died"] = True
            time.run("delete from worker")
            time.tick()
            time.beat("oberon/1", (ident, 1, a), lease=3)
            time.listen(8)
            before = []
            for word in order:
                if word == "audit":
                    time.audit()
                else:
                    before.append(said[word])
                    time.apply(*before)
            time.audit()
            real = "end" in kinds
            assert state(time, ident) == (("completed", "ok", 1) if real else ("queued", None, 1)), order
            detail, = time.run("select ending->>'detail' from attempt where evaluation = %s", ident)[0]
            assert detail == f"it ended: {'ok' if real else 'lost'}", "the worker's own word stands before the audit's"
            # Something asked for the next attempt, once, unless the real end was the first.
            asked = time.run("select count(*) from outbox where evaluation = %s", ident)[0][0]
            assert asked == 0 if order[0] == "end" else asked <= 1


@pytest.mark.parametrize("seed", range(3))
def test_random_audits_among_events(time, seed):
    """Whatever happens before, between and after: what is real at last is what counts, and an ordinal is asked for once."""
    rng = random.Random(seed)
    for ident in fresh(time, 15):
        runs = [store.attempt_id() for _ in range(rng.randint(1, 3))]
        events = []
        for n, run in enumerate(runs, 1):
            kw = {"attempt": n, "ident": run, "worker": f"oberon/{n}"}
            events.append(store.started(ident, 1, **kw))
            if rng.random() < 0.5:
                events.append(own_end(ident, rng.choice(["lost", "ok", "exit"]), **kw))
        time.run("delete from worker")
        time.tick()
        for n, run in enumerate(runs, 1):
            time.beat(f"oberon/{n}", (ident, n, run), lease=3)
        time.listen(8)
        steps = events * 2 + [None] * 3
        rng.shuffle(steps)
        for e in steps:
            if e:
                time.apply(e)
            else:
                time.audit()
        time.apply(*events)
        time.audit()
        ends = [e for e in events if e["body"].get("reason") in ("ok", "exit")]
        if ends:
            last = max(ends, key=lambda e: e["attempt"])
            assert state(time, ident) == (last["kind"], last["body"]["reason"], last["attempt"])
        else:
            assert state(time, ident) == ("queued", None, len(runs))
        assert time.run("select count(*) from attempt where evaluation = %s and end_rank is null", ident) == [(0,)] or ends
        asked = [json.loads(r[0])["attempt"] for r in time.run("select body from outbox where evaluation = %s", ident)]
        assert len(asked) == len(set(asked))


# --- evaluations that take their keepers down ---

def killed(ident, attempt, died=True, reason="lost"):
    e = own_end(ident, reason, attempt=attempt, ident=store.attempt_id())
    e["body"]["keeper_died"] = died
    return e


def test_the_second_dead_keeper_is_the_last(time):
    ident, calm, mixed = fresh(time, 3)
    assert time.apply(killed(ident, 1)) == [(3, False, 2)]
    second = killed(ident, 2)
    assert time.apply(second, second) == [(3, True, None), (1, False, None)]
    assert state(time, ident) == ("failed", "poison", 2) and time.db.evaluation(ident)["settled"]
    assert time.apply(store.progress(ident, 5, 1, attempt=2, ident=second["attempt_id"]))[0][:2] == (2, False)
    assert state(time, ident) == ("failed", "poison", 2)
    # Of the same attempt something real comes after all.
    time.apply(store.end(ident, 7, "exit", attempt=2, ident=second["attempt_id"]))
    assert state(time, ident) == ("failed", "exit", 2)
    # Hosts that were lost, keepers that only say so, and other faults do not count.
    for n, e in enumerate([killed(calm, 1, False), killed(calm, 2, None), killed(calm, 3, "true")], 1):
        assert time.apply(e) == [(3, False, n + 1)]
    assert [time.apply(e)[0][2] for e in (killed(mixed, 1), killed(mixed, 2, reason="infrastructure"), killed(mixed, 3))] == [2, 3, None]
    assert state(time, mixed) == ("failed", "poison", 3)


def test_a_retry_by_hand_counts_dead_keepers_anew(time):
    ident, = fresh(time)
    time.apply(killed(ident, 1))
    time.apply(killed(ident, 2))
    body = json.dumps(dict(REQUEST, attempt=3))
    assert time.run("select accepted from retry_evaluation(%s, 3, 'zr', 'k', gen_random_uuid(), %s)", ident, body) == [(True,)]
    assert time.apply(killed(ident, 3)) == [(2, False, 4)]
    assert state(time, ident) == ("failed", "poison", 2), "until there is another end"
    assert time.apply(killed(ident, 4)) == [(3, True, None)]
    assert state(time, ident) == ("failed", "poison", 4)


def test_losses_by_the_audit_poison_nothing(time):
    ident, = fresh(time)
    time.apply(killed(ident, 1))
    time.tick()
    time.beat("oberon/1", (ident, 2, store.attempt_id()))
    time.listen(62)
    assert time.audit() == [(ident, 2, 3)]
    assert time.apply(killed(ident, 3)) == [(3, True, None)]
    assert state(time, ident) == ("failed", "poison", 3)


# --- requests that no queue holds ---

def looks(time, seconds, messages=0):
    """The queue is looked at and the ticks go on, for so long."""
    while seconds > 0:
        time.run("select saw_queue('eval.pool.default', %s)", messages)
        time.listen(8)
        time.run("update queue_look set seen_at = seen_at - interval '8 seconds', empty_since = empty_since - interval '8 seconds'")
        seconds -= 8


def resent(time, lease=30):
    return [r[0] for r in time.run("select evaluation from resend_requests(%s, 100)", lease * 1000000)]


@pytest.fixture
def waiting(time):
    """One whose request is gone, and what must not be sent again: it is owed, held, running, young, of a program of before."""
    time.run("delete from queue_look")
    time.run("update evaluation set state = 'canceled', step = 4 where state in ('queued', 'running')")
    gone, owed, held, running, young, old = fresh(time, 6)
    time.run("update evaluation set queued_at = now() - interval '1 hour' where id = any(%s)", [gone, owed, held, running, old])
    time.run("update evaluation set request = null where id = %s", old)
    time.run("insert into outbox (evaluation, exchange, routing_key, message_id, body) values (%s, 'zr', 'k', gen_random_uuid(), '')", owed)
    time.tick()
    time.beat("oberon/1", (held, 1, store.attempt_id()), lease=3600)
    time.apply(store.started(running))
    time.gone, time.young = gone, young
    return time


def test_a_request_that_nobody_has_is_sent_again(waiting):
    time = waiting
    assert time.run("select * from queues_to_see(30000000)") == [("eval.pool.default",)]
    looks(time, 24)
    assert resent(time) == []
    looks(time, 16)
    assert resent(time) == [time.gone] and resent(time) == []
    body, = time.run("select body from outbox where evaluation = %s", time.gone)[0]
    assert json.loads(body)["attempt"] == 1 and json.loads(body)["evaluator"] == "hello"
    time.run("delete from outbox where evaluation = %s", time.gone)
    time.run("update evaluation set resent_at = resent_at - interval '55 seconds' where id = %s", time.gone)
    assert resent(time) == [], "each time it waits twice as long"
    time.run("update evaluation set resent_at = resent_at - interval '10 seconds' where id = %s", time.gone)
    assert resent(time) == [time.gone]


@pytest.mark.parametrize("what", ["full", "absent", "full once", "not looked at", "no ticks", "stuck"])
def test_a_request_that_may_be_somewhere_is_not(waiting, what):
    time = waiting
    looks(time, 40, {"full": 3, "absent": -1}.get(what, 0))
    if what == "full once":
        looks(time, 8, 1)
        looks(time, 24)
    elif what == "not looked at":
        time.run("update queue_look set seen_at = seen_at - interval '2 minutes'")
    elif what == "no ticks":
        time.run("select saw_queue('eval.pool.default', 0)")
    elif what == "stuck":
        time.run("insert into listener (name, clear_at) values ('stuck/1', now() - interval '30 seconds')")
    assert resent(time) == []


def test_a_request_is_looked_for_before_it_is_sent_again(waiting):
    """And what was found has to be applied."""
    time = waiting

    def sent():
        return [r[0] for r in time.run("select evaluation from resend_sought(30000000, 100)")]

    def missing():
        return [r[:2] for r in time.run("select evaluation, attempt from attempts_to_seek(30000000, 100)")]
    looks(time, 40)
    assert sent() == [] and missing() == [], "it may be on its way"
    time.tick()
    assert missing() == [(time.gone, 1)] and sent() == []
    time.run("select have_sought(array[%s], array[1], true)", time.gone)
    assert sent() == [] and missing() == []
    time.tick()
    assert sent() == [time.gone]


# --- events that no queue holds (0109) ---

@pytest.mark.parametrize("what", ["missing", "held", "just told", "adopted", "lost", "no lease"])
def test_an_attempt_that_nobody_holds(time, what):
    time.run("delete from sought")
    ident, = fresh(time)
    name = store.attempt_id()
    time.tick()
    time.apply(store.started(ident, ident=name))
    time.step(40)
    time.run("update event set recorded_at = recorded_at - interval '40 seconds' where evaluation = %s", ident)
    time.beat("oberon/1", *([(ident, 1, name)] if what == "held" else []), lease=None if what == "no lease" else 30)
    if what == "adopted":
        time.beat("oberon/2", (ident, 1, name), lease=30)
    elif what == "just told":
        time.apply(store.progress(ident, 2, 1, ident=name))
    elif what == "lost":
        time.listen(31)

    def missing():
        return time.run("select evaluation, attempt from attempts_to_seek(30000000, 100) where evaluation = %s", ident)
    assert missing() == []
    time.tick()
    assert missing() == ([(ident, 1)] if what == "missing" else [])


def test_an_end_that_is_nowhere_is_a_loss(time):
    ident, = fresh(time)
    name = store.attempt_id()
    time.tick()
    time.apply(store.started(ident, ident=name))
    time.run("update event set recorded_at = recorded_at - interval '40 seconds' where evaluation = %s", ident)
    time.beat("oberon/1", lease=30)

    def lost():
        return [r[:2] for r in time.run("select evaluation, again from end_unheld() where evaluation = %s", ident)]
    time.run("select attempts_to_seek(30000000, 100)")
    for read in (True, False, True):
        time.run("select have_sought(array[%s], array[1], %s)", ident, read)
        time.tick()
        assert lost() == []
    time.run("select have_sought(array[%s], array[1], true)", ident)
    assert lost() == []
    time.tick()
    assert lost() == [(ident, 2)] and lost() == []


# --- with a broker and zr-update; the worker is only its messages ---

class Fake(threading.Thread):
    """Says every 0.3 s that it lives and what it holds, and comes back when its connection is lost."""

    def __init__(self, site, name="oberon/1", lease=3, host="oberon"):
        super().__init__(daemon=True)
        self.site, self.name, self.lease, self.host = site, name, lease, host
        self.jobs, self.quiet, self.since = [], threading.Event(), now()

    def message(self):
        jobs = [{"evaluation": str(e), "attempt": a, "attempt_id": i, "phase": "run", "since": self.since} for e, a, i in self.jobs]
        return {"zr": "1.0", "type": "worker", "host": self.host, "worker": self.name, "pid": 4711, "boot_id": BOOT, "since": self.since,
                "at": now(), "state": "busy" if jobs else "idle", "jobs": jobs, "lease_usec": self.lease * 1000000, "evaluators": ["hello"]}

    def run(self):
        while not self.quiet.is_set():
            try:
                connection = pika.BlockingConnection(pika.URLParameters(self.site.env["AMQP_URL"]))
                channel = connection.channel()
                channel.confirm_delivery()
                while not self.quiet.wait(0.3):
                    channel.basic_publish("zr", f"event.worker.{self.host}", json.dumps(self.message()),
                                          pika.BasicProperties(delivery_mode=2), mandatory=True)
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                self.quiet.wait(0.3)

    def fall_silent(self):
        self.quiet.set()
        self.join(10)


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.fixture
def fakes():
    made = []

    def make(*args, **kw):
        made.append(Fake(*args, **kw))
        made[-1].start()
        return made[-1]
    yield make
    for fake in made:
        fake.fall_silent()


def prepared(sandbox):
    sandbox.prepare()
    store.challenge(sandbox)
    store.submission(sandbox)
    sandbox.setting("retry_delay", "1s")
    sandbox.setting("amqp_heartbeat", "5s")
    return sandbox


def held(site, fake):
    """An evaluation that runs there, and is known to."""
    ident, = store.evaluations(site, request=REQUEST)
    site.query("update evaluation set pool = 'default' where id = %s", ident)
    attempt = store.attempt_id()
    fake.jobs = [*fake.jobs, (ident, 1, attempt)]
    store.publish(site.channel(), store.started(ident, ident=attempt, worker=fake.name))
    wait_for(lambda: store.outcome(site, ident)[0] == "running"
             and site.query("select body::text like %s from worker where worker = %s", f"%{attempt}%", fake.name) == [(True,)])
    return ident


def asked(site, ident):
    return site.query("select asked_attempt from evaluation where id = %s", ident)[0][0]


def silent_for(site, seconds):
    """By what the database has heard."""
    return site.query("select now() - max(heard_at) > %s * interval '1 second' from worker", seconds) == [(True,)]


def listened_for(site, seconds):
    return site.query("select heard_until > since + %s * interval '1 second' from listening, worker_lease limit 1", seconds) == [(True,)]


def test_a_worker_that_falls_silent_is_lost(sandbox, fakes):
    site = prepared(sandbox)
    daemon = site.update_worker()
    fake = fakes(site)
    ident = held(site, fake)
    claimed, = store.evaluations(site, request=REQUEST)
    fake.jobs = [*fake.jobs, (claimed, 1, store.attempt_id())]
    wait_for(lambda: len((site.zr_json("workers") or [{"jobs": []}])[0]["jobs"]) == 2)
    wait_for(lambda: listened_for(site, 3))
    worker, = site.zr_json("workers")
    assert (worker["worker"], worker["alive"], worker["lost"], worker["lease_usec"]) == ("oberon/1", True, False, 3000000)
    assert asked(site, ident) == 1
    fake.fall_silent()
    wait_for(lambda: asked(site, ident) == 2 and asked(site, claimed) == 2, 60, "the worker to be lost")
    silent = site.query("select extract(epoch from recorded_at - (body->>'silent_since')::timestamptz)::float from event"
                        " where kind = 'failed' order by 1")
    assert len(silent) == 2 and silent[0][0] > 3, "not before the lease is over"
    said = site.zr("evaluations:why", ident).stdout
    assert re.search(r"is queued\. Attempt 1 ended with 'lost': worker oberon/1 was not heard of for \d s \(since 20[-0-9T:]+Z\)\. "
                     r"Attempt 2 ", said), said
    for i in (ident, claimed):
        daemon.wait_log(rf"evaluation {i}: attempt 1 is lost, worker oberon/1 was not heard of for \d s .*, attempt 2 will follow")
    assert site.zr_json("workers")[0]["lost"]
    wait_for(lambda: site.query("select count(*) from outbox") == [(0,)])
    sent = [json.loads(site.channel().basic_get("zr.eval.default", auto_ack=True)[2]) for _ in range(2)]
    assert [m["attempt"] for m in sent] == [2, 2]
    # It runs elsewhere, and is told from what was.
    store.publish(site.channel(), store.started(ident, ident=store.attempt_id(), attempt=2, host="titania"))
    wait_for(lambda: store.outcome(site, ident)[:3] == ("running", None, 2))
    said = site.zr("evaluations:why", ident).stdout
    assert "Attempt 2 runs" in said and "Attempt 1 ended with 'lost': worker oberon/1 was not heard of" in said


def test_a_broker_that_is_away_makes_nobody_lost(make_own_sandbox, own_services, fakes):
    site = prepared(make_own_sandbox())
    site.update_worker()
    fake = fakes(site)
    ident = held(site, fake)
    wait_for(lambda: listened_for(site, 3))
    own_services.stop("rabbitmq")
    wait_for(lambda: silent_for(site, 8))
    assert asked(site, ident) == 1
    own_services.start("rabbitmq")

    def never_lost():
        assert asked(site, ident) == 1, site.evaluation(ident)
        return listened_for(site, 6)
    wait_for(never_lost, 60)
    assert asked(site, ident) == 1
    fake.fall_silent()
    wait_for(lambda: asked(site, ident) == 2, 30)


def test_an_update_worker_that_is_away_makes_nobody_lost(sandbox, fakes):
    """Its queue is full of what the worker said meanwhile, and of what another one said that is gone since."""
    site = prepared(sandbox)
    daemon = site.update_worker()
    fake, other = fakes(site), fakes(site, "titania/1", host="titania")
    ident, gone = held(site, fake), held(site, other)
    wait_for(lambda: listened_for(site, 3))
    daemon.stop()
    other.fall_silent()
    wait_for(lambda: silent_for(site, 8))
    site.update_worker()

    def only_the_other():
        assert asked(site, ident) == 1, site.evaluation(ident)
        return asked(site, gone) == 2 and listened_for(site, 8)
    wait_for(only_the_other, 60)
    assert store.outcome(site, ident)[0] == "running"


def test_silence_without_an_update_worker_says_so(sandbox):
    site = prepared(sandbox)
    ident, = store.evaluations(site, request=REQUEST)
    beat = Fake(site, lease=60).message()
    site.query("select heard_worker('oberon/1', 'oberon', now(), %s)", json.dumps(beat))
    started = store.started(ident, ident=store.attempt_id())
    site.query("select from apply_events(%s)", json.dumps([started]))
    site.query("update worker set heard_at = now() - interval '40 seconds', seen_at = now() - interval '40 seconds'")
    said = site.zr("evaluations:why", ident).stdout
    assert re.search(r"But that worker has been silent for 4\ds\. It would count as lost after 1m, but no update worker looks", said), said
    site.query("insert into listening (since, sent_at) values (now(), now())")
    said = site.zr("evaluations:why", ident).stdout
    assert re.search(r"silent for 4\ds: after 1m of silence it counts as lost, and another attempt follows\.", said), said


def test_a_purged_queue_costs_nothing_but_time(sandbox):
    site = prepared(sandbox)
    site.setting("lease", "5s")
    site.evaluator("hello", "#!/bin/sh\necho '{\"score\": 1}' >\"$ZR_OUTPUT/scores.json\"\n")
    site.zr("challenges:add", "c2", "--evaluator", "hello")
    sub = site.zr_id("submissions:create", "c2", os.path.dirname(site.file("work/answer", "x")), "--author", "ann")
    idents = [site.zr_id("submissions:eval", sub) for _ in range(3)]
    channel = site.channel()
    wait_for(lambda: channel.queue_declare("zr.eval.default", passive=True).method.message_count == 3)
    channel.queue_delete("zr.eval.default")
    site.zr("topology:apply")
    site.eval_worker()
    daemon = site.update_worker()
    for ident in idents:
        daemon.wait_log(f"evaluation {ident}: no queue and no worker has its request for attempt 1 any more", 60)
    said = site.zr("evaluations:why", idents[0]).stdout
    assert "No queue and no worker had its request, so it was sent again" in said or "ran to its end" in said, said
    for ident in idents:
        shown = site.wait_evaluation(ident, "completed")
        assert shown["attempt"] == 1 and len(shown["attempts"]) == 1


def test_ticks_are_no_workers(sandbox):
    site = prepared(sandbox)
    daemon = site.update_worker("-w", 2)
    wait_for(lambda: listened_for_anybody(site))
    assert site.zr_json("workers") == []
    names = site.query("select name from listener order by 1")
    assert len(names) == 2, names
    channel = site.channel()
    message = dict(Fake(site).message(), role="gardener")
    store.publish(channel, routing_key="event.worker.oberon", body=json.dumps(message))
    ident, = store.evaluations(site)
    store.publish(channel, *store.history(ident))
    wait_for(lambda: store.outcome(site, ident)[0] == "completed")
    assert site.zr_json("workers") == [], "of a later version: nothing is known of it"
    daemon.stop()


def listened_for_anybody(site):
    return site.query("select sent_at > since + interval '3 seconds' from listening") == [(True,)]


def deleted(site):
    """What waits in zr.update is gone; the queue is made again."""
    site.channel().queue_delete("zr.update")
    site.zr("topology:apply")


def test_what_was_deleted_with_its_queue_is_in_the_stream(sandbox, fakes):
    """An end, and all that was said of another evaluation."""
    site = prepared(sandbox)
    site.setting("lease", "3s")
    daemon = site.update_worker()
    fake = fakes(site)
    ident = held(site, fake)
    name = fake.jobs[0][2]
    other, = store.evaluations(site, request=REQUEST)
    daemon.stop()
    fake.jobs = []
    channel = site.channel()
    store.publish(channel, store.end(ident, 9, ident=name, worker=fake.name), *store.history(other, worker=fake.name))
    deleted(site)
    daemon = site.update_worker()
    wait_for(lambda: {store.outcome(site, i)[:3] for i in (ident, other)} == {("completed", "ok", 1)}, 60, "their ends")
    daemon.wait_log("events of . attempts are taken from the stream zr.events")
    assert site.query("select count(*) from attempt") == [(2,)] and site.query("select sum(resent) from evaluation") == [(0,)]


def test_what_nobody_knows_is_lost(sandbox, fakes):
    site = prepared(sandbox)
    site.setting("lease", "3s")
    daemon = site.update_worker()
    fake = fakes(site)
    ident = held(site, fake)
    fake.jobs = []
    wait_for(lambda: asked(site, ident) == 2, 90, "its end to be given up")
    daemon.wait_log(f"evaluation {ident}: attempt 1 is lost, worker oberon/1 does not hold it any more, and no event says how it ended, attempt 2 will follow")
    said = site.zr("evaluations:why", ident).stdout
    assert "Attempt 1 ended with 'lost': worker oberon/1 does not hold it any more" in said, said
