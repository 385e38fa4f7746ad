# SPDX-License-Identifier: MIT
"""zr-update against a real broker, database and SSH server; events are published by hand."""
import json
import os
import random
import signal
import time
import uuid

import pika
import psycopg2
import pytest

from lib import sealed, store
from lib.wait import wait_for


def prepared(sandbox):
    sandbox.prepare()
    store.challenge(sandbox)
    store.submission(sandbox)
    return sandbox


@pytest.fixture
def site(sandbox):
    return prepared(sandbox)


def depth(sandbox, queue="zr.update"):
    """Messages that wait in a queue. What a consumer has not acknowledged counts only after its end."""
    return sandbox.channel().queue_declare(queue, passive=True).method.message_count


def stop(sandbox, daemon):
    """Ends it properly; everything must have been acknowledged but a last word of its own."""
    daemon.stop()
    for _ in range(depth(sandbox)):
        body = sandbox.channel().basic_get("zr.update", auto_ack=True)[2]
        assert json.loads(body).get("role") == "update", body


def wait_outcomes(sandbox, idents, state="completed", timeout=30):
    def all_there():
        rows = sandbox.query("select count(*) from evaluation where id = any(%s) and state = %s", list(idents), state)
        assert rows[0][0] == len(idents), rows
        return True
    wait_for(all_there, timeout, f"{len(idents)} evaluations to be {state}", interval=0.05)


def parked(sandbox, n=1):
    def there():
        rows = sandbox.query("select reason, routing_key, message_id, body, detail from parked_event order by id")
        assert len(rows) == n, rows
        return rows
    return wait_for(there)


# --- events ---

@pytest.mark.parametrize("workers", [1, 2])
def test_shuffled_and_repeated_events(site, workers):
    rng = random.Random(workers)
    idents = store.evaluations(site, 60)
    events = [e for i in idents for e in store.history(i, scores={"acc": i})]
    events += rng.sample(events, 60)
    rng.shuffle(events)
    daemon = site.update_worker("-w", workers, "--prefetch-count", 64)
    store.publish(site.channel(), *events)
    wait_outcomes(site, idents)
    assert site.query("select count(*) from event")[0][0] == 180
    shown = site.evaluation(idents[7])
    assert (shown["scores"], shown["host"], shown["worker"], shown["exit_code"]) == ({"acc": idents[7]}, "oberon", "oberon/1", 0)
    assert shown["progress"]["done"] == 5 and shown["settled"]
    stop(site, daemon)
    assert len(site.query("select holder from leader")) == 0, "the leader resigned"


def test_unknown_evaluations_are_parked(site):
    daemon = site.update_worker()
    channel = site.channel()
    known, = store.evaluations(site)
    lost = [store.started(99999), store.started("e-4.7")]
    store.publish(channel, *lost, *store.history(known))
    wait_outcomes(site, [known])
    rows = {r[2]: r for r in parked(site, 2)}
    for m in lost:
        reason, routing_key, _, body, _ = rows[m["id"]]
        assert (reason, routing_key, json.loads(bytes(body))) == ("unknown-evaluation", store.key(m), m)
    stop(site, daemon)


def test_names_that_are_not_text_are_parked_too(site):
    site.update_worker()
    m = store.started(99999)
    properties = pika.BasicProperties(message_id=b"\xff\xfe", delivery_mode=2)
    site.channel().basic_publish("zr", b"event.started.\xff", json.dumps(m), properties)
    assert parked(site)[0][:2] == ("unknown-evaluation", r"event.started.\xff")


BAD = [b"", b"{", b"[]", b"\xff\xfe", b'{"zr":"1.0","type":"event"}', b'{"zr":"2.0","type":"event"}', b"x" * 100000,
       b'{"zr":"1.0","type":"event","type":"event"}', b"[" * 5000]


def test_malformed_messages_go_to_the_dead_queue(site):
    daemon = site.update_worker()
    channel = site.channel()
    known, = store.evaluations(site)
    nul = store.end(known, 2)
    nul["body"]["detail"] = "a\0b"
    bodies = BAD + [json.dumps(nul).encode()]
    for body in bodies:
        store.publish(channel, routing_key="event.completed.1", body=body)
    before = time.monotonic()
    store.publish(channel, *store.history(known))
    wait_outcomes(site, [known], timeout=10)
    assert time.monotonic() - before < 5
    wait_for(lambda: depth(site, "zr.dead") == len(bodies), interval=0.1)
    stop(site, daemon)
    found = []
    for _ in bodies:
        method, properties, body = channel.basic_get("zr.dead", auto_ack=True)
        assert properties.headers["zr-reason"] and properties.headers["zr-detail"]
        assert properties.headers["zr-queue"] == "zr.update" and properties.headers["zr-routing-key"] == "event.completed.1"
        found.append(body)
    assert sorted(found) == sorted(bodies)


def test_an_oversized_message_is_not_lost(site):
    site.update_worker()
    body = b'{"x":"' + b"a" * (2 << 20) + b'"}'
    store.publish(site.channel(), routing_key="event.completed.1", body=body)
    wait_for(lambda: depth(site, "zr.dead") == 1)
    assert site.channel().basic_get("zr.dead", auto_ack=True)[2] == body


def test_data_that_the_database_refuses_is_parked_alone(site):
    """The fault is in one of many: the others of its transaction are applied."""
    site.query("""create function refuse() returns trigger language plpgsql as $$ begin
                  if new.host = 'poison' then raise exception using errcode = '22001', message = 'too long'; end if;
                  return new; end $$""")
    site.query("create trigger refuse before insert on event for each row execute function refuse()")
    idents = store.evaluations(site, 40)
    bad = store.started(idents[5], 7, host="poison")
    events = [e for i in idents for e in store.history(i)]
    channel = site.channel()
    store.publish(channel, *events[:60], bad, *events[60:])
    daemon = site.update_worker()
    wait_outcomes(site, idents)
    (reason, _, message_id, body, detail), = parked(site)
    assert (reason, message_id, detail) == ("data", bad["id"], "too long (SQLSTATE 22001)")
    assert json.loads(bytes(body)) == bad
    stop(site, daemon)


def test_heartbeats_become_the_list_of_workers(site):
    daemon = site.update_worker()

    def beat(second, state):
        return {"zr": "1.0", "type": "worker", "id": str(uuid.uuid4()), "kind": "worker", "evaluation": "oberon", "host": "oberon",
                "worker": "oberon/1", "pid": 4711, "boot_id": str(uuid.uuid4()), "since": store.at(0), "at": store.at(second),
                "state": state, "evaluators": ["hello"],
                "jobs": [{"evaluation": "42", "attempt": 1, "phase": "run", "since": store.at(second)}] if state == "busy" else []}

    channel = site.channel()
    for m in (beat(10, "busy"), beat(5, "idle")):
        store.publish(channel, m, routing_key="event.worker.oberon")
    wait_for(lambda: site.zr_json("workers"))
    stop(site, daemon)
    worker, = site.zr_json("workers")
    assert (worker["worker"], worker["state"], worker["pid"]) == ("oberon/1", "busy", 4711)
    assert worker["jobs"][0]["evaluation"] == "42"


def test_nothing_is_acknowledged_before_its_commit(site):
    """A table is locked while the events come, and the worker is killed while it waits."""
    daemon = site.update_worker()
    idents = store.evaluations(site, 20)
    lock = site.db()
    lock.autocommit = False
    lock.cursor().execute("lock table event in exclusive mode")
    store.publish(site.channel(), *(e for i in idents for e in store.history(i)))
    wait_for(lambda: site.query("select count(*) > 0 from pg_locks where not granted") == [(True,)])
    daemon.kill_group()
    wait_for(lambda: depth(site) >= 60)
    daemon = site.update_worker()
    lock.rollback()
    wait_outcomes(site, idents)
    stop(site, daemon)


def test_a_lock_on_an_evaluation_holds_up_its_own_events_alone(site):
    """Somebody holds its row; of others more comes than the window holds, and of its own too."""
    locked, *others = store.evaluations(site, 60)
    lock = site.db()
    lock.autocommit = False
    lock.cursor().execute("select from evaluation where id = %s for update", (locked,))
    daemon = site.update_worker("-w", 1, "--prefetch-count", 32)
    channel = site.channel()
    mine = store.history(locked, scores={"n": 1})
    store.publish(channel, *mine[:2], *(e for i in others for e in store.history(i)))
    wait_outcomes(site, others, timeout=90)
    daemon.wait_log(f"somebody holds a lock on evaluation {locked}", 60)
    more = store.evaluations(site, 40)
    store.publish(channel, mine[2], *(e for i in more for e in store.history(i)))
    wait_outcomes(site, more, timeout=90)
    assert store.outcome(site, locked)[0] == "queued"
    lock.rollback()
    wait_outcomes(site, [locked], timeout=90)
    assert site.query("select count(*) from event") == [(300,)] and site.evaluation(locked)["scores"] == {"n": 1}
    stop(site, daemon)


# --- killed and restarted ---

def test_killed_again_and_again(site):
    """Between delivery, commit and acknowledgement: every event is in the database exactly once."""
    rng = random.Random(5)
    idents = store.evaluations(site, 400)
    events = [e for i in idents for e in store.history(i, scores={"n": i})]
    rng.shuffle(events)
    channel = site.channel()
    for part in range(6):
        daemon = site.update_worker("--prefetch-count", 20)
        store.publish(channel, *events[part * 200:(part + 1) * 200])
        time.sleep(rng.uniform(0, 0.15))  # anywhere in its work
        daemon.kill_group()
    daemon = site.update_worker()
    wait_outcomes(site, idents)
    stop(site, daemon)
    assert site.query("select count(*), count(distinct (evaluation, seq)) from event") == [(1200, 1200)]
    assert site.query("select count(*) from attempt where ending->'scores'->>'n' = evaluation::text")[0][0] == 400


def test_a_second_sigterm_and_a_worker_that_dies(site):
    daemon = site.update_worker("-w", 2)
    pid = int(site.run("pgrep", "-P", daemon.pid).stdout.split()[0])
    os.kill(pid, signal.SIGKILL)
    idents = store.evaluations(site, 5)
    store.publish(site.channel(), *(e for i in idents for e in store.history(i)))
    wait_outcomes(site, idents)
    daemon.stop()


def test_sighup_reads_hosts_again(site):
    daemon = site.update_worker()
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("read again from")
    site.setting("lease", "banana")
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("settings stay as they are")
    daemon.stop()


def test_parked_events_are_applied_again_or_forgotten(site):
    daemon = site.update_worker()
    channel = site.channel()
    missing = 424242
    events = store.history(missing, scores={"n": 1})
    other = store.started(99999)
    store.publish(channel, *events, other)
    rows = wait_for(lambda: (lambda rows: len(rows) == 4 and rows)(site.zr_json("events:parked")))
    assert {r["reason"] for r in rows} == {"unknown-evaluation"} and {r["message_id"] for r in rows} == {e["id"] for e in [*events, other]}
    assert "99999" in site.zr("events:parked").stdout and len(site.zr_json("events:parked", "--limit", 1)) == 1
    assert site.zr_json("events:parked", "--reason", "data") == []

    # The database has it after all: restored, or the event was quicker than a replica.
    site.query("insert into evaluation (id, submission, challenge, evaluator, state, step) values (%s, 1, 1, 'hello', 'queued', 1)", missing)
    assert site.zr("events:requeue", "--all").stdout == "4 sent back\n"
    wait_outcomes(site, [missing])
    assert site.evaluation(missing)["scores"] == {"n": 1}
    again = wait_for(lambda: (lambda rows: len(rows) == 1 and rows)(site.zr_json("events:parked")))[0]
    assert again["message_id"] == other["id"] and again["id"] > max(r["id"] for r in rows)
    body = site.query("select body from parked_event")[0][0]
    assert json.loads(bytes(body)) == other

    r = site.zr("events:forget", again["id"], 777777, check=1)
    assert r.stdout == "1 forgotten\n" and "no parked event 777777" in r.stderr
    assert site.zr_json("events:parked") == []
    for wrong in ((), ("--all", "5"), ("x",), ("--all", "--reason", "data")):
        site.zr("events:requeue", *wrong, check=2)
    stop(site, daemon)


def test_a_parked_event_stays_while_the_broker_is_away(site):
    site.query("insert into parked_event (message_id, routing_key, reason, detail, body) values (%s, 'k', 'data', 'd', %s)",
               "m" * 300, psycopg2.Binary(b"\xff\0{"))
    url = site.env["AMQP_URL"]
    away = {"AMQP_URL": url[:url.rindex("@")] + "@127.0.0.1:1" + url[url.rindex("/"):]}
    assert site.zr("events:requeue", "--all", env=away, check=75).stdout == ""
    assert len(site.zr_json("events:parked")) == 1
    assert site.zr("events:requeue", "--reason", "data").stdout == "1 sent back\n"
    assert site.channel().basic_get("zr.update", auto_ack=True)[2] == b"\xff\0{"
    assert site.zr_json("events:parked") == []


def age(site, days, idents):
    """As if it had all happened so long ago."""
    site.query("update event set recorded_at = recorded_at - %s * interval '1 day' where evaluation = any(%s)", days, idents)
    site.query("update evaluation set created_at = created_at - %s * interval '1 day' where id = any(%s)", days, idents)


def events_of(site, idents):
    return site.query("select count(*) from event where evaluation = any(%s)", list(idents))[0][0]


def test_old_events_are_removed_and_outcomes_stay(site):
    """More of them than one step takes; beside them an evaluation that has not ended, one that was heard of lately, and a young one."""
    daemon = site.update_worker()
    old = store.evaluations(site, 130)
    still_open, heard_of, young = store.evaluations(site, 3)
    channel = site.channel()
    histories = {i: store.history(i, scores={"n": i}) for i in old}
    store.publish(channel, *(e for h in histories.values() for e in h))
    many = [store.progress(old[3], 100 + i, 1) for i in range(1100)]
    store.publish(channel, *many, *store.history(heard_of), *store.history(young), store.started(still_open), store.started(99999))
    wait_outcomes(site, [*old, heard_of, young])
    wait_for(lambda: events_of(site, [*old, still_open]) == 130 * 3 + 1100 + 1)
    parked(site)
    daemon.stop()
    age(site, 100, [*old, still_open, heard_of])
    site.query("update event set recorded_at = now() where evaluation = %s and seq = 1", heard_of)
    site.query("update parked_event set parked_at = now() - interval '100 days'")
    daemon = site.update_worker()
    daemon.wait_log("1490 events and 1 parked events were older than event_retention")
    assert events_of(site, old) == 0 and site.query("select count(*) from parked_event") == [(0,)]
    assert events_of(site, [still_open, heard_of, young]) == 7
    shown = site.evaluation(old[5])
    assert shown["status"] == "completed" and shown["scores"] == {"n": old[5]}
    # One that comes again changes nothing.
    before = site.query("select version from evaluation where id = %s", old[5])
    store.publish(channel, *histories[old[5]], *store.history(young))
    wait_for(lambda: events_of(site, [old[5]]) == 3)
    assert site.query("select version from evaluation where id = %s", old[5]) == before
    stop(site, daemon)


# --- servers that go away ---

def test_database_restarted_in_the_middle(make_own_sandbox, own_services):
    site = prepared(make_own_sandbox())
    idents = store.evaluations(site, 200)
    events = [e for i in idents for e in store.history(i)]
    daemon = site.update_worker("--prefetch-count", 64)
    channel = site.channel()
    store.publish(channel, *events[:150])
    own_services.kill("postgres")
    store.publish(channel, *events[150:])
    daemon.wait_log("events wait, trying again")
    assert depth(site) > 0 and daemon.alive(), "the window is full, the rest stays where it is"
    own_services.start("postgres")
    wait_outcomes(site, idents, timeout=60)
    assert site.query("select count(*) from event")[0][0] == 600
    stop(site, daemon)


def test_broker_restarted_in_the_middle(make_own_sandbox, own_services):
    site = prepared(make_own_sandbox())
    idents = store.evaluations(site, 100)
    daemon = site.update_worker("--prefetch-count", 16)
    store.publish(site.channel(), *(e for i in idents for e in store.history(i)))
    own_services.stop("rabbitmq")
    daemon.wait_log("trying again")
    own_services.start("rabbitmq")
    wait_outcomes(site, idents, timeout=60)
    stop(site, daemon)


def test_connections_cut_by_the_database(site):
    idents = store.evaluations(site, 300)
    events = [e for i in idents for e in store.history(i)]
    daemon = site.update_worker("--prefetch-count", 32)
    channel = site.channel()
    for i in range(6):
        store.publish(channel, *events[i * 150:(i + 1) * 150])
        site.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'zr-update%%'"
                   " and datname = current_database()")
    wait_outcomes(site, idents, timeout=60)
    assert site.query("select count(*) from event")[0][0] == 900
    daemon.stop()


def test_no_schema_ends_with_status_2(sandbox):
    sandbox.zr("topology:apply")
    r = sandbox.run("zr-update", check=2)
    assert "run 'zr db:migrate'" in r.stderr


def test_no_queue_is_said_and_mended(sandbox):
    sandbox.zr("db:migrate")
    store.challenge(sandbox)
    store.submission(sandbox)
    daemon = sandbox.update_worker(ready=False)
    daemon.wait_log("zr topology:check")
    sandbox.zr("topology:apply")
    ident, = store.evaluations(sandbox)
    store.publish(sandbox.channel(), *store.history(ident))
    wait_outcomes(sandbox, [ident])


# --- results ---

def seal(sandbox, ident, files=None, host="devhost"):
    folder = sandbox.state if host == "devhost" else os.path.join(sandbox.dir, "hosts", host, "zr")
    return sealed.seal(os.path.join(folder, "sealed", ident), files or {"out.txt": b"hello", ".zr/out.log": b"log"})


def complete(ident, attempt, obj, host="devhost", root=None):
    return store.end(ident, 2, ident=attempt, root_hash=root or obj.root, host=host, scores={"acc": 1})


def releases(sandbox):
    """A queue that hears what is said to eval hosts."""
    channel = sandbox.channel()
    name = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(name, "zr", "control.release")

    def get():
        body = channel.basic_get(name, auto_ack=True)[2]
        return json.loads(body) if body else None
    return get


def wait_results(sandbox, ident, state, timeout=30):
    def there():
        shown = sandbox.evaluation(ident)
        assert shown["results"]["state"] == state, shown["results"]
        return shown
    return wait_for(there, timeout, interval=0.1)


def test_results_are_collected_and_released(site):
    get = releases(site)
    ident, = store.evaluations(site)
    attempt = store.attempt_id()
    site.update_worker()
    store.publish(site.channel(), store.started(ident, ident=attempt, host="devhost"), complete(ident, attempt, seal(site, attempt)))
    shown = wait_results(site, ident, "stored")
    assert shown["results"]["path"] == f"{site.state}/results/{ident}/1"
    with open(shown["results"]["path"] + "/out.txt") as f:
        assert f.read() == "hello"
    said = wait_for(get)
    assert (said["kind"], said["evaluation"], said["attempt_id"]) == ("release", str(ident), attempt)
    wait_for(lambda: site.query("select count(*) from outbox") == [(0,)])


def test_a_result_that_is_not_what_was_announced_is_refused(site):
    get = releases(site)
    ident, = store.evaluations(site)
    attempt = store.attempt_id()
    obj = seal(site, attempt)
    site.query("insert into leaderboard (label, challenge, definition) values ('b', 1, '{\"label\":\"b\",\"challenge\":\"c1\"}')")
    site.update_worker()
    store.publish(site.channel(), complete(ident, attempt, obj, root="sha256:" + "0" * 64))
    shown = wait_results(site, ident, "refused")
    assert shown["results"]["path"] is None and shown["results"]["detail"]
    assert os.path.exists(obj.pack_path) and get() is None
    # A score whose result cannot be verified ranks nowhere.
    wait_for(lambda: os.path.exists(site.state + "/leaderboards/b.json") and
             site.zr_json("leaderboards:show", "b")["data"] == [])


def away(site):
    """A host that nobody can reach."""
    os.makedirs(os.path.join(site.dir, "conf.d"), exist_ok=True)
    with open(os.path.join(site.dir, "conf.d/test-away.conf"), "w") as f:
        f.write('host "away" {\n address = "127.0.0.1"\n port = 1\n user = "nobody"\n state_dir = "/nowhere"\n}\n')


def test_empty_results_need_no_host(site):
    """More than one look finds; those of a host with a real result that cannot be had do not wait for it."""
    get = releases(site)
    away(site)
    idents = store.evaluations(site, 600)
    stuck = idents.pop()
    daemon = site.update_worker()
    real = complete(stuck, store.attempt_id(), None, host="away", root="sha256:" + "1" * 64)
    store.publish(site.channel(), real, *(complete(i, store.attempt_id(), None, host="away", root=sealed.EMPTY) for i in idents))
    wait_for(lambda: site.query("select count(*) from attempt where results_state = 'stored'") == [(599,)], 30)
    for ident in idents[::100]:
        path = site.evaluation(ident)["results"]["path"]
        assert path == f"{site.state}/results/{ident}/1" and os.listdir(path) == []
        assert site.zr("evaluations:logs", ident).stdout == ""
    daemon.wait_log("results of away wait")
    assert get() is None and site.query("select count(*) from outbox") == [(0,)]
    assert site.evaluation(stuck)["results"]["state"] == "pending"


def test_empty_result_whose_place_is_taken_waits(site):
    taken, there, free = store.evaluations(site, 3)
    folder = f"{site.state}/results/{taken}/1"
    os.makedirs(folder + "/thing")
    os.makedirs(f"{site.state}/results/{there}/1")  # by a process that ended before its commit
    daemon = site.update_worker()
    store.publish(site.channel(), *(complete(i, store.attempt_id(), None, root=sealed.EMPTY) for i in (taken, there, free)))
    for ident in (there, free):
        wait_results(site, ident, "stored")
    daemon.wait_log(f"result '{taken}/1' is there and is not empty")
    assert site.evaluation(taken)["results"]["state"] == "pending"
    os.rmdir(folder + "/thing")
    wait_results(site, taken, "stored")


def test_a_result_without_a_place_waits_for_one(site):
    """As the database would say it by a mistake: nothing is refused for good, and the next look mends it."""
    right = site.query("select pg_get_functiondef('results_due'::regproc)")[0][0]
    wrong = right.replace("a.ending->>'result_bytes', a.results_path", "a.ending->>'result_bytes', null::text")
    assert wrong != right
    site.query(wrong.replace("%", "%%"))
    full, empty = store.evaluations(site, 2)
    attempt = store.attempt_id()
    daemon = site.update_worker()
    store.publish(site.channel(), complete(full, attempt, seal(site, attempt)),
                  complete(empty, store.attempt_id(), None, root=sealed.EMPTY))
    for ident in (full, empty):
        daemon.wait_log(f"evaluation {ident}, attempt 1: the database names no place for its result")
    assert site.query("select distinct results_state from attempt") == [("pending",)]
    site.query(right.replace("%", "%%"))
    for ident in (full, empty):
        wait_results(site, ident, "stored")


def test_two_attempts_of_one_ordinal_have_a_folder_each(site):
    ident, = store.evaluations(site)
    a, b = store.attempt_id(), store.attempt_id()
    site.update_worker()
    channel = site.channel()
    for attempt, text in ((a, b"one"), (b, b"two")):
        store.publish(channel, complete(ident, attempt, seal(site, attempt, {"out.txt": text})))
    wait_for(lambda: site.query("select count(*) from attempt where results_state = 'stored'") == [(2,)], 30)
    shown = site.evaluation(ident)
    paths = {x["attempt_id"]: x["results"]["path"] for x in shown["attempts"]}
    assert shown["attempt_id"] == b and shown["results"]["path"] == paths[b]
    for attempt, text in ((a, "one"), (b, "two")):
        with open(paths[attempt] + "/out.txt") as f:
            assert f.read() == text


def test_a_host_that_is_away_holds_up_nobody(make_sandbox):
    site = prepared(make_sandbox(hosts=("far", "near")))
    away(site)
    idents = store.evaluations(site, 12)
    daemon = site.update_worker()
    events, near = [], []
    for n, ident in enumerate(idents):
        attempt, host = store.attempt_id(), ("away", "near", "unknown")[n % 3]
        obj = seal(site, attempt, host="near")
        events.append(complete(ident, attempt, obj, host=host))
        near += [ident] if host == "near" else []
    store.publish(site.channel(), *events)
    for ident in near:
        wait_results(site, ident, "stored")
    daemon.wait_log("results of away wait")
    daemon.wait_log('no section host "unknown"')
    wait_outcomes(site, idents)
    assert site.query("select count(*) from attempt where results_state = 'pending'") == [(8,)]


def test_pending_results_are_picked_up_at_the_start(site):
    idents = store.evaluations(site, 30)
    daemon = site.update_worker()
    events = []
    for ident in idents:
        attempt = store.attempt_id()
        events.append(complete(ident, attempt, seal(site, attempt, {"n.txt": b"%d" % ident})))
    store.publish(site.channel(), *events)
    wait_outcomes(site, idents)
    daemon.kill_group()
    site.update_worker()
    for ident in idents:
        path = wait_results(site, ident, "stored", timeout=60)["results"]["path"]
        with open(path + "/n.txt") as f:
            assert f.read() == str(ident)


# --- leaderboards and the outbox ---

def test_leaderboards_follow_a_burst(site):
    site.query("""insert into leaderboard (label, challenge, definition)
                  values ('b1', 1, '{"label":"b1","challenge":"c1","score":"acc","order":"desc","entries":"all"}')""")
    daemon = site.update_worker()
    submissions = [store.submission(site, f"author {n}") for n in range(30)]
    idents = [store.evaluations(site, submission_id=s)[0] for s in submissions]
    store.publish(site.channel(), *(e for n, i in enumerate(idents) for e in store.history(i, scores={"acc": n})))

    def full():
        data = site.zr_json("leaderboards:show", "b1")["data"]
        assert [d["score"]["acc"] for d in data] == list(range(29, -1, -1))
        return True
    wait_for(lambda: os.path.exists(site.state + "/leaderboards/b1.json"))
    wait_for(full, 10, interval=0.2)
    wait_for(lambda: site.query("select count(*) from leaderboard_dirty") == [(0,)])
    assert daemon.log().count("leaderboard b1:") <= 5, "bursts are coalesced"


def test_a_board_that_cannot_be_written_is_tried_again(site):
    site.query("""insert into leaderboard (label, challenge, definition)
                  values ('b1', 1, '{"label":"b1","challenge":"c1","score":"acc"}'), ('b0', 1, '{"label":"b0","challenge":"c1"}')""")
    boards = site.state + "/leaderboards"
    os.makedirs(boards + "/b1.json")
    site.update_worker()
    ident, = store.evaluations(site)
    store.publish(site.channel(), *store.history(ident, scores={"acc": 1}))
    wait_for(lambda: site.query("select error is not null from leaderboard where label = 'b1'") == [(True,)])
    wait_for(lambda: os.path.exists(boards + "/b0.json"))
    os.rmdir(boards + "/b1.json")
    wait_for(lambda: os.path.isfile(boards + "/b1.json"), 20)
    wait_for(lambda: site.query("select error from leaderboard where label = 'b1'") == [(None,)])


def test_what_a_dead_command_left_in_the_outbox_is_published(site):
    ident = site.query("insert into evaluation (submission, challenge, evaluator) values (1, 1, 'hello') returning id")[0][0]
    body = json.dumps({"zr": "1.0", "type": "request", "id": str(uuid.uuid4())})
    site.query("insert into outbox (evaluation, exchange, routing_key, message_id, body, created_at)"
               " values (%s, 'zr', 'eval.pool.default', gen_random_uuid(), %s, now() - interval '1 minute')", ident, body)
    # Nothing takes this one: it is kept, with the reason.
    site.query("insert into outbox (exchange, routing_key, message_id, body, created_at)"
               " values ('zr', 'nobody.listens', gen_random_uuid(), '{}', now() - interval '1 minute')")
    site.update_worker()
    wait_for(lambda: site.query("select state, queued_at is not null from evaluation where id = %s", ident) == [("queued", True)])
    assert site.channel().basic_get("zr.eval.default", auto_ack=True)[2].decode() == body
    rows = wait_for(lambda: site.query("select routing_key, tries, error from outbox where tries > 0"))
    assert rows[0][0] == "nobody.listens" and rows[0][2]
