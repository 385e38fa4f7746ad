# SPDX-License-Identifier: MIT
"""The schema: its versions, and the joins of apply_events() against a model that knows nothing of order."""
import itertools
import json
import os
import random
import threading

import psycopg2
import pytest

from lib import store
from lib.sandbox import Sandbox
from lib.wait import wait_for

FINAL = ("completed", "failed", "canceled")


# --- migrations ---

def test_migrate_twice_and_at_once(sandbox):
    done = []
    threads = [threading.Thread(target=lambda: done.append(sandbox.zr("db:migrate").stdout)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(map(bool, done)) == [False, False, False, True]
    assert "nothing to do" in sandbox.zr("db:migrate").stderr
    versions = [r[0] for r in sandbox.query("select version from schema_version order by 1")]
    assert versions == sorted(set(versions)) and versions[0] == 101


@pytest.mark.parametrize("version, word", [(None, "zr db:migrate"), (9901, "install a newer zr")])
def test_wrong_schema_is_one_line_and_status_2(sandbox, version, word):
    if version:
        sandbox.zr("db:migrate")
        sandbox.query("insert into schema_version (version, name, program) values (%s, 'future', '9')", version)
    for argv in (("zr", "evaluations"), ("zr-update",)):
        r = sandbox.run(*argv, check=2)
        lines = [line for line in r.stderr.splitlines() if word in line]
        assert len(lines) == 1, r.stderr


def test_a_newer_minor_version_is_fine(sandbox):
    sandbox.zr("db:migrate")
    sandbox.query("insert into schema_version (version, name, program) values (199, 'future', '1.9')")
    assert sandbox.zr_json("evaluations") == []


def test_wrong_password_is_one_line_without_it(sandbox):
    url = sandbox.env["DATABASE_URL"]
    password = url.split(":")[2].split("@")[0]
    r = sandbox.zr("db:migrate", env={"DATABASE_URL": url.replace(password, "hunter2")}, check=2)
    assert "check user and password in database_url" in r.stderr and "hunter2" not in r.stderr
    assert len(r.stderr.splitlines()) == 1


def test_no_database_is_try_again(sandbox):
    r = sandbox.zr("evaluations", env={"DATABASE_URL": "postgresql://zr:x@127.0.0.1:1/zr"}, check=75)
    assert "127.0.0.1:1" in r.stderr


# --- the joins ---

@pytest.fixture(scope="module")
def db(services):
    """Shared by the tests of the joins: each has evaluations of its own."""
    box = Sandbox(services, f"store-{os.getpid()}")
    try:
        yield filled(box)
    finally:
        box.close()


@pytest.fixture
def own_db(sandbox):
    return filled(sandbox)


def filled(sandbox):
    sandbox.zr("db:migrate")
    store.challenge(sandbox)
    store.submission(sandbox)
    return sandbox


def apply(cursor, events):
    cursor.execute("select answer, ended, collect from apply_events(%s)", (json.dumps(events),))
    return cursor.fetchall()


class Model:
    """What must come out, from the set of events alone. Ends: a real one stands before lost and infrastructure of the same
    attempt, then the lower seq; of several attempts the highest. A lost attempt is no end while another is allowed."""

    def __init__(self, events, max_attempts):
        attempts = {}
        for e in events:
            attempts.setdefault((e["attempt"], e["attempt_id"]), []).append(e)
        self.attempts = {k: self._attempt(v) for k, v in attempts.items()}
        ends = {k: a["end"] for k, a in self.attempts.items()
                if a["end"] and (a["end"]["body"]["reason"] not in ("lost", "infrastructure") or k[0] >= max_attempts)}
        if ends:
            k = max(ends)
            self.outcome = (ends[k]["kind"], ends[k]["body"]["reason"], *k)
        else:
            k = max(self.attempts)
            self.outcome = ("queued" if self.attempts[k]["end"] else "running", None, *k)

    @staticmethod
    def _attempt(events):
        ends = [e for e in events if e["kind"] in FINAL]
        steps = [e for e in events if e["kind"] == "progress"]
        starts = [e for e in events if e["kind"] == "started"]
        last = max(events, key=lambda e: e["seq"])
        return {
            "end": min(ends, key=lambda e: (e["body"]["reason"] in ("lost", "infrastructure"), e["seq"])) if ends else None,
            "done": max(steps, key=lambda e: e["seq"])["body"]["done"] if steps else None,
            "worker": last["worker"],
            "start": min(e["at"] for e in starts) if starts else None,
        }


def check(cursor, ident, model):
    cursor.execute("select state, reason, attempt, attempt_id::text from evaluation where id = %s", (ident,))
    assert cursor.fetchone() == model.outcome
    cursor.execute("select attempt, attempt_id::text, worker, end_state, (progress->>'done')::int, ending->>'reason',"
                   " rfc3339(started_at) from attempt where evaluation = %s", (ident,))
    found = {(r[0], r[1]): r[2:] for r in cursor.fetchall()}
    want = {k: (a["worker"], a["end"] and a["end"]["kind"], a["done"], a["end"] and a["end"]["body"]["reason"], a["start"])
            for k, a in model.attempts.items()}
    assert found == want


def run_orders(sandbox, template, orders, max_attempts, rng):
    """Applies every order to an evaluation of its own, with repeats, in batches cut anywhere and mixed."""
    idents = store.evaluations(sandbox, len(orders), max_attempts=max_attempts)
    lines = []
    for ident, order in zip(idents, orders):
        events = [dict(template[i], evaluation=str(ident)) for i in order]
        for _ in range(3):
            events.insert(rng.randrange(len(events) + 1), rng.choice(events))
        lines.append(events)
    cursor = sandbox.db().cursor()
    while any(lines):
        batch = []
        for events in lines:
            n = rng.randint(0, 3)
            batch += events[:n]
            del events[:n]
        for i in range(0, len(batch), 200):
            apply(cursor, batch[i:i + 200])
    model = Model(template, max_attempts)
    for ident in idents:
        check(cursor, ident, model)
    cursor.execute("select count(*) from event where evaluation = any(%s)", (idents,))
    assert cursor.fetchone()[0] == len(orders) * len({(e["attempt_id"], e["seq"]) for e in template})


def test_every_order_of_three_attempts(db):
    """All 5,040 orders of seven events: queued is the row itself, two attempts fail, one completes, words come late."""
    a, b, c = (store.attempt_id() for _ in range(3))
    template = [store.started(0, 0, ident=a), store.end(0, 2, "exit", ident=a),
                store.started(0, 0, attempt=2, ident=b), store.progress(0, 1, 4, attempt=2, ident=b),
                store.end(0, 3, attempt=2, ident=b, scores={"x": 1}),
                store.progress(0, 2, 7, attempt=2, ident=b, worker="oberon/9"), store.started(0, 0, ident=c)]
    orders = list(itertools.permutations(range(len(template))))
    run_orders(db, template, orders, 1, random.Random(1))


def random_history(rng):
    """Attempts with ordinals that may be equal, each with a few events."""
    template, ordinals = [], [rng.randint(1, 3) for _ in range(rng.randint(1, 3))]
    for n in ordinals:
        ident, seq = store.attempt_id(), 0
        host = rng.choice(["oberon", "titania"])
        common = {"attempt": n, "ident": ident, "host": host}
        if rng.random() < 0.8:
            template.append(store.started(0, seq, **common))
        for _ in range(rng.randint(0, 2)):
            seq += 1
            template.append(store.progress(0, seq, seq, worker=f"{host}/{rng.randint(1, 3)}", **common))
        for _ in range(rng.choice([0, 1, 1, 2])):
            seq += 1
            reason = rng.choice(["ok", "exit", "canceled", "lost", "infrastructure", "wall-limit"])
            template.append(store.end(0, seq, reason, **common))
    return template


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_in_random_orders(db, seed):
    rng = random.Random(seed)
    for _ in range(6):
        template = random_history(rng)
        if not template:
            continue
        orders = [rng.sample(range(len(template)), len(template)) for _ in range(60)]
        run_orders(db, template, orders, rng.randint(1, 3), rng)


def test_answers(db):
    ident, = store.evaluations(db)
    a, b = store.attempt_id(), store.attempt_id()
    cursor = db.db().cursor()
    start, finish = store.started(ident, ident=b), store.end(ident, 2, ident=b)
    assert apply(cursor, [start, start, store.started(99999)]) == [(3, False, False), (1, False, False), (0, False, False)]
    assert apply(cursor, [finish, store.end(ident, 2, "exit", ident=a)]) == [(3, True, False), (2, False, False)]
    assert apply(cursor, [finish, store.progress(ident, 1, 1, ident=b)]) == [(1, False, False), (2, False, False)]
    assert store.outcome(db, ident) == ("completed", "ok", 1, b)


def test_the_last_allowed_attempt_ends_a_lost_evaluation(db):
    ident, = store.evaluations(db, max_attempts=2)
    a, b = store.attempt_id(), store.attempt_id()
    cursor = db.db().cursor()
    apply(cursor, [store.started(ident, ident=a), store.end(ident, 1, "lost", ident=a)])
    assert store.outcome(db, ident) == ("queued", None, 1, a)
    apply(cursor, [store.started(ident, attempt=2, ident=b)])
    assert store.outcome(db, ident) == ("running", None, 2, b)
    apply(cursor, [store.end(ident, 1, "lost", attempt=2, ident=b)])
    assert store.outcome(db, ident) == ("failed", "lost", 2, b)


def test_two_writers_at_once(db):
    """Overlapping batches from two connections: same end, whoever comes first, and no deadlock that does not pass."""
    rng = random.Random(3)
    idents = store.evaluations(db, 40)
    histories = {i: store.history(i) + store.history(i) for i in idents}
    everything = [e for h in histories.values() for e in h]
    failures = []

    def write(seed):
        mine = random.Random(seed).sample(everything, len(everything))
        cursor = db.db().cursor()
        for i in range(0, len(mine), 30):
            batch = sorted(mine[i:i + 30], key=lambda e: int(e["evaluation"]))
            for _ in range(5):
                try:
                    apply(cursor, batch)
                    break
                except psycopg2.errors.DeadlockDetected:
                    continue
                except psycopg2.Error as e:
                    failures.append(e)
                    return
            else:
                failures.append("deadlocks")

    threads = [threading.Thread(target=write, args=(rng.random(),)) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    cursor = db.db().cursor()
    for ident, h in histories.items():
        check(cursor, ident, Model(h, 1))


def test_a_result_that_becomes_pending_during_a_look_waits_for_the_next(own_db):
    """The look's first statement gives places and is held up at a row; its second one sees more than the first did."""
    early, late = store.evaluations(own_db, 2)
    root = "sha256:" + "0" * 64
    other = own_db.db().cursor()
    apply(other, [store.end(early, 2, root_hash=root)])
    lock = own_db.db()
    lock.autocommit = False
    lock.cursor().execute("select from attempt where evaluation = %s for update", (early,))
    found = []
    look = threading.Thread(target=lambda: found.extend(own_db.query("select evaluation, path from results_due('[]', 9, '')")))
    look.start()
    wait_for(lambda: own_db.query("select count(*) > 0 from pg_stat_activity where datname = current_database()"
                                  " and wait_event_type = 'Lock'") == [(True,)])
    apply(other, [store.end(late, 2, root_hash=root)])
    lock.rollback()
    look.join(30)
    assert found == [(early, f"{early}/1")]
    assert own_db.query("select evaluation, path from results_due('[]', 9, '')") == [(early, f"{early}/1"), (late, f"{late}/1")]


def test_two_attempts_of_one_ordinal_that_become_pending_together_have_a_place_each(own_db):
    ident, = store.evaluations(own_db)
    ids = [store.attempt_id(), store.attempt_id()]
    for one in ids:
        apply(own_db.db().cursor(), [store.end(ident, 2, ident=one, root_hash="sha256:" + "0" * 64)])
    places = dict(own_db.query("select attempt_id::text, path from results_due('[]', 9, '')"))
    assert places == {ids[0]: f"{ident}/1", ids[1]: f"{ident}/1.{ids[1]}"}


# --- cancel and retry ---

def cancel(sandbox, ident):
    return sandbox.query("select was, outbox is not null from cancel_evaluation(%s, 'me', 'zr', 'control.cancel',"
                         " gen_random_uuid(), '{}')", ident)[0]


def test_a_cancel_beats_what_was_not_recorded_before(db):
    ident, = store.evaluations(db)
    a = store.attempt_id()
    cursor = db.db().cursor()
    apply(cursor, [store.started(ident, ident=a)])
    assert cancel(db, ident) == ("running", True)
    apply(cursor, [store.end(ident, 2, scores={"x": 1}, ident=a)])
    shown = db.evaluation(ident)
    assert (shown["status"], shown["reason"], shown["scores"], shown["attempt_id"]) == ("canceled", "canceled", None, a)
    # What the attempt said is kept.
    assert shown["attempts"][0]["status"] == "completed" and shown["attempts"][0]["scores"] == {"x": 1}
    assert cancel(db, ident) == ("canceled", False)


def test_a_cancel_before_the_start_covers_the_attempt_that_follows(db):
    ident, = store.evaluations(db)
    assert cancel(db, ident) == ("queued", True)
    apply(db.db().cursor(), store.history(ident))
    assert store.outcome(db, ident)[:2] == ("canceled", "canceled")


def test_a_recorded_end_beats_a_cancel(db):
    ident, = store.evaluations(db)
    apply(db.db().cursor(), store.history(ident))
    assert cancel(db, ident) == ("completed", False)
    assert store.outcome(db, ident)[0] == "completed"


@pytest.mark.parametrize("seed", range(4))
def test_a_cancel_at_any_place(db, seed):
    rng = random.Random(seed)
    cursor = db.db().cursor()
    for _ in range(20):
        template = random_history(rng)
        ident, = store.evaluations(db)
        events = [dict(e, evaluation=str(ident)) for e in rng.sample(template, len(template))]
        where = rng.randint(0, len(events))
        for e in events[:where]:
            apply(cursor, [e])
        before = Model(events[:where], 1).outcome if where else ("queued",)
        cancel(db, ident)
        for e in events[where:] * 2:
            apply(cursor, [e])
        if before[0] in FINAL:
            check(cursor, ident, Model(template, 1))
        else:
            assert store.outcome(db, ident)[:2] == ("canceled", "canceled")


def test_a_retry_stands_above_a_cancel(db):
    ident, = store.evaluations(db)
    cancel(db, ident)
    accepted = "select accepted from retry_evaluation(%s, %s, 'zr', 'k', gen_random_uuid(), '{}')"
    assert db.query(accepted, ident, 3) == [(False,)]
    assert db.query(accepted, ident, 2) == [(True,)]
    assert db.query(accepted, ident, 3) == [(False,)], "the retry has not ended"
    assert not db.evaluation(ident)["settled"]
    b = store.attempt_id()
    apply(db.db().cursor(), store.history(ident) + [store.end(ident, 5, attempt=2, ident=b, scores={"x": 2})])
    shown = db.evaluation(ident)
    assert (shown["status"], shown["attempt"], shown["scores"], shown["settled"]) == ("completed", 2, {"x": 2}, True)


# --- automatic retries ---

REQUEST = {"zr": "1.0", "type": "request", "id": "x", "attempt": 1, "created_at": "x", "evaluator": "hello", "priority": "normal"}
OWN = ("exit", "signal", "cpu-limit", "wall-limit", "memory", "output-limit", "disk", "pids")
HOSTS = ("lost", "infrastructure")


def again(cursor, *events, infrastructure=3, delay=10_000_000):
    cursor.execute("select again from apply_events(%s, %s, %s)", (json.dumps(events), infrastructure, delay))
    return [r[0] for r in cursor.fetchall()]


def owed(sandbox, ident):
    """What lies in the outbox for it: the ordinals, and how many seconds away they are."""
    rows = sandbox.query("select body, message_id::text, exchange, routing_key, extract(epoch from next_at - created_at)::float"
                         " from outbox where evaluation = %s order by id", ident)
    for body, message_id, exchange, routing_key, _ in rows:
        m = json.loads(body)
        assert (m["id"], exchange, routing_key) == (message_id, "zr", "eval.pool.default")
        assert {k: v for k, v in m.items() if k not in ("id", "attempt", "created_at")} == \
            {k: v for k, v in REQUEST.items() if k not in ("id", "attempt", "created_at")}
    return [(json.loads(r[0])["attempt"], round(r[4])) for r in rows]


def finish(evaluation, attempt, reason, **kw):
    kw.setdefault("ident", store.attempt_id())
    return store.end(evaluation, 2, reason, attempt=attempt, **kw)


def test_a_failure_is_final_unless_its_evaluator_allows_retries(db):
    plain, twice = store.evaluations(db, 2, request=REQUEST)
    cursor = db.db().cursor()
    assert again(cursor, finish(plain, 1, "exit")) == [None]
    assert store.outcome(db, plain)[:3] == ("failed", "exit", 1) and owed(db, plain) == []
    assert again(cursor, finish(twice, 1, "wall-limit", retries=1)) == [2]
    assert store.outcome(db, twice)[:3] == ("queued", None, 1) and owed(db, twice) == [(2, 10)]
    assert not db.evaluation(twice)["settled"]
    assert again(cursor, finish(twice, 2, "exit", retries=1)) == [None]
    assert store.outcome(db, twice)[:3] == ("failed", "exit", 2) and db.evaluation(twice)["settled"]


@pytest.mark.parametrize("reason", ["ok", "canceled", "setup", "poison"])
def test_what_would_end_the_same_way_is_final(db, reason):
    ident, = store.evaluations(db, request=REQUEST)
    assert again(db.db().cursor(), finish(ident, 1, reason, retries=5)) == [None]
    assert store.outcome(db, ident)[1] == reason and owed(db, ident) == []


def test_faults_of_hosts_have_a_count_of_their_own(db):
    ident, only = store.evaluations(db, 2, request=REQUEST)
    cursor = db.db().cursor()
    reasons = ["lost", "exit", "infrastructure", "exit"]
    assert [again(cursor, finish(ident, n, r, retries=1))[0] for n, r in enumerate(reasons, 1)] == [2, 3, 4, None]
    assert store.outcome(db, ident)[:3] == ("failed", "exit", 4)
    assert owed(db, ident) == [(2, 10), (3, 20), (4, 40)]
    assert [again(cursor, finish(only, n, "lost", retries=9), infrastructure=2)[0] for n in (1, 2, 3)] == [2, 3, None]
    assert store.outcome(db, only)[:3] == ("failed", "lost", 3)


def test_an_attempt_is_asked_for_once(db):
    """Two runs of one ordinal, repeated words, and a real end after a `lost`."""
    ident, = store.evaluations(db, request=REQUEST)
    cursor = db.db().cursor()
    a, b = finish(ident, 1, "lost"), finish(ident, 1, "lost")
    assert again(cursor, a, a, b) == [None, None, 2]
    assert again(cursor, b, a) == [None, None] and owed(db, ident) == [(2, 10)]
    assert again(cursor, dict(store.end(ident, 1, "exit", retries=3), attempt_id=b["attempt_id"])) == [None]
    assert owed(db, ident) == [(2, 10)]


def test_two_writers_ask_once(db):
    """One holds its transaction open with an end; the other one has an end of the same ordinal."""
    ident, = store.evaluations(db, request=REQUEST)
    first, second = db.db(), db.db()
    first.autocommit = False
    assert again(first.cursor(), finish(ident, 1, "lost")) == [2]
    answers = []
    t = threading.Thread(target=lambda: answers.extend(again(second.cursor(), finish(ident, 1, "lost"))))
    t.start()
    wait_for(lambda: db.query("select count(*) from pg_locks where not granted")[0][0])
    first.commit()
    t.join()
    assert answers == [None] and owed(db, ident) == [(2, 10)]


def test_a_cancel_takes_a_retry_back(db):
    ident, late = store.evaluations(db, 2, request=REQUEST)
    cursor = db.db().cursor()
    assert again(cursor, finish(ident, 1, "lost")) == [2]
    cancel(db, ident)
    assert owed(db, ident) == [] and store.outcome(db, ident)[0] == "canceled"
    cancel(db, late)
    assert again(cursor, finish(late, 1, "lost")) == [None] and owed(db, late) == []


def test_a_retry_by_hand_has_retries_of_its_own(db):
    ident, = store.evaluations(db, request=REQUEST)
    cursor = db.db().cursor()
    again(cursor, finish(ident, 1, "exit"))
    body = json.dumps(dict(REQUEST, attempt=2))
    assert db.query("select accepted from retry_evaluation(%s, 2, 'zr', 'eval.pool.default', gen_random_uuid(), %s)", ident, body) == [(True,)]
    db.query("delete from outbox where evaluation = %s", ident)
    assert again(cursor, finish(ident, 2, "lost")) == [3]
    # The first end stands until another one comes.
    assert store.outcome(db, ident)[:3] == ("failed", "exit", 1) and not db.evaluation(ident)["settled"]
    assert owed(db, ident) == [(3, 10)]
    assert again(cursor, finish(ident, 1, "lost")) == [None], "of the request before"
    assert again(cursor, finish(ident, 3, "ok")) == [None]
    assert store.outcome(db, ident)[:3] == ("completed", "ok", 3) and db.evaluation(ident)["settled"]
    assert db.query("select accepted from retry_evaluation(%s, 4, 'zr', 'k', gen_random_uuid(), %s)", ident, body) == [(True,)]


@pytest.mark.parametrize("seed", range(3))
def test_random_failures_use_up_what_is_allowed(db, seed):
    """Attempt after attempt until nothing is asked for, with repeats and words of others beside them."""
    rng = random.Random(seed)
    cursor = db.db().cursor()
    for ident in store.evaluations(db, 30, request=REQUEST):
        retries, hosts = rng.randint(0, 3), rng.randint(0, 3)
        own, faults, attempt, said = 0, 0, 1, []
        while attempt:
            reason = rng.choice(rng.choice([OWN, HOSTS]))
            own, faults = own + (reason in OWN), faults + (reason in HOSTS)
            want = None if own > retries or faults > hosts else attempt + 1
            run = store.attempt_id()
            batch = [store.started(ident, attempt=attempt, ident=run), finish(ident, attempt, reason, ident=run, retries=retries)]
            said += batch
            answers = again(cursor, *rng.sample(said, min(2, len(said))), *batch, *batch, infrastructure=hosts)
            assert [a for a in answers if a] == ([want] if want else []), (reason, own, faults, retries, hosts)
            attempt = want
        assert store.outcome(db, ident)[:2] == ("failed", reason)
        assert len(owed(db, ident)) == own + faults - 1


# --- leaderboards as commands ---

def board(sandbox, definition, *args, **kw):
    path = sandbox.file("board.json", json.dumps(definition))
    return sandbox.zr("leaderboards:create", "-f", path, *args, **kw)


def test_leaderboard_of_the_database(own_db):
    ann, bob = store.submission(own_db, "ann"), store.submission(own_db, "bob")
    cursor = own_db.db().cursor()
    for ident, acc in ((ann, 0.5), (ann, 0.7), (bob, 0.6), (bob, None)):
        e, = store.evaluations(own_db, submission_id=ident)
        apply(cursor, store.history(e, scores={"acc": acc} if acc else {"other": 1}))
    r = board(own_db, {"label": "b1", "challenge": "c1", "score": "acc", "order": "desc", "columns": ["acc * 100"]})
    assert "left out: submission 3 of bob: no 'acc' in the scores" in r.stderr
    shown = own_db.zr_json("leaderboards:show", "b1")
    assert set(shown) == {"updatedOn", "data"}
    # Of a submission evaluated twice the newest evaluation counts.
    assert [(d["index"], d["author_label"], d["score"], d["columns"]) for d in shown["data"]] == \
        [(1, "ann", {"acc": 0.7}, {"acc * 100": 70.0})]
    assert "ann" in own_db.zr("leaderboards:show", "b1").stdout
    with open(own_db.state + "/leaderboards/b1.csv", newline="") as f:
        assert f.read().splitlines()[1].startswith("1,ann,0.7,2,")
    assert own_db.zr_json("leaderboards")[0]["skipped"] == [{"entry": "submission 3 of bob", "why": "no 'acc' in the scores"}]


def test_leaderboard_external_entries(own_db):
    own_db.file("ext/good.json", json.dumps({"author_label": "baseline", "score": {"acc": 0.1}}))
    own_db.file("ext/sub/list.json", json.dumps([{"author_label": "x", "score": {"acc": 0.2}}, {"author_label": "y"}]))
    broken = own_db.file("ext/broken.json", "{")
    r = board(own_db, {"label": "b1", "challenge": "c1", "score": "acc", "order": "asc", "external": own_db.dir + "/files/ext"})
    assert [d["author_label"] for d in own_db.zr_json("leaderboards:show", "b1")["data"]] == ["baseline", "x"]
    assert broken in r.stderr and "left out: y: it has no scores" in r.stderr


@pytest.mark.parametrize("definition, word", [
    ({"label": "b", "challenge": "nope", "score": "x"}, "no challenge 'nope'"),
    ({"label": "../b", "challenge": "c1"}, "'label' is ../b"),
    ({"label": "b", "challenge": "c1", "score": "a +"}, "want a key, a number or '('"),
    ({"label": "b", "challenge": "c1", "scores": "a"}, "has no 'scores'"),
])
def test_bad_leaderboard_definitions_are_named(own_db, definition, word):
    assert word in board(own_db, definition, check=1).stderr
    assert own_db.zr_json("leaderboards") == []


def test_leaderboards_by_list_replace_and_delete(own_db):
    two = [{"label": "b1", "challenge": "c1"}, {"label": "b2", "challenge": "c1", "score": "acc"}]
    board(own_db, two)
    assert "already" in board(own_db, two[0], check=1).stderr
    # All or none.
    r = board(own_db, [{"label": "b3", "challenge": "c1"}, {"label": "b4", "challenge": "c1", "order": "up"}], check=1)
    assert "definition 2" in r.stderr and not r.stdout and len(own_db.zr_json("leaderboards")) == 2
    assert "empty list" in board(own_db, [], check=2).stderr
    board(own_db, dict(two[0], score="acc"), "--replace")
    assert [(r["label"], r["score"]) for r in own_db.zr_json("leaderboards")] == [("b1", "acc"), ("b2", "acc")]
    os.unlink(own_db.state + "/leaderboards/b2.json")
    assert "'zr leaderboards:build b2' builds it" in own_db.zr("leaderboards:show", "b2", check=1).stderr
    own_db.zr("leaderboards:delete", "b1")
    assert not any(n.startswith("b1") for n in os.listdir(own_db.state + "/leaderboards"))
    assert "no leaderboard 'b1'" in own_db.zr("leaderboards:show", "b1", check=1).stderr
    assert own_db.zr("leaderboards:build", "b1", check=1).stderr.startswith("zr leaderboards:build: no leaderboard 'b1'")
