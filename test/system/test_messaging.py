# SPDX-License-Identifier: MIT
"""Broker, topology, queues and zr-echo, against RabbitMQ with pika beside them, and against brokers that lie."""
import datetime
import json
import os
import re
import time

import jsonschema
import pika
import pytest

from lib import liar
from lib.services import ROOT
from lib.tls import Authority, Door
from lib.wait import wait_for

PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="application/json")
ECHO = {"zr": "1.0", "type": "echo", "message": "hi", "at": "2026-11-21T23:00:00.000000Z"}


@pytest.fixture
def broker(sandbox):
    sandbox.zr("topology:apply")
    return sandbox


def listen(box, *args, **kw):
    return box.start("zr-echo", *args, **kw)


def lines(daemon):
    return [line for line in daemon.log().splitlines() if not line.startswith("<")]


def wait_lines(daemon, n, timeout=15):
    return wait_for(lambda: len(lines(daemon)) >= n and lines(daemon), timeout, f"{n} lines of {daemon.name}:\n{daemon.log()}")


def depth(box, queue):
    """Counted by the broker itself, through pika."""
    connection = box.amqp()
    try:
        return connection.channel().queue_declare(queue, passive=True).method.message_count
    finally:
        connection.close()


def wait_depth(box, queue, n):
    wait_for(lambda: depth(box, queue) == n, 15, f"{n} messages in {queue}")


# --- topology ---

def test_apply_twice_changes_nothing(sandbox):
    missing = sandbox.zr("topology:check", check=1)
    assert "zr topology:apply" in missing.stdout
    first = sandbox.zr("topology:apply").stdout
    assert sandbox.zr("topology:apply").stdout == first
    rows = sandbox.zr_json("topology:check")
    assert {r["state"] for r in rows} == {"ready"}
    assert {"zr.dead", "zr.update", "zr.events", "zr.control", "zr.eval.default", "zr.eval.default.high",
            "zr.host.devhost"} <= {r["name"] for r in rows}


def test_queue_with_other_properties_is_named_with_the_cure(sandbox):
    sandbox.amqp().channel().queue_declare("zr.update", durable=True)
    r = sandbox.zr("topology:apply", check=1)
    assert "zr.update" in r.stderr and "other properties" in r.stderr and "delete" in r.stderr
    rows = {r["name"]: r for r in json.loads(sandbox.zr("topology:check", "--json", check=1).stdout) if r["kind"] != "exchange"}
    assert rows["zr.update"]["state"] == "differs" and rows["zr.control"]["state"] == "missing"
    sandbox.amqp().channel().queue_delete("zr.update")
    sandbox.zr("topology:apply")


def test_pools_of_the_settings_get_queues(sandbox):
    sandbox.setting("pool", ["hopper", "any"])
    sandbox.zr("topology:apply")
    names = {r["name"] for r in sandbox.zr_json("queues")}
    assert {"zr.eval.hopper", "zr.eval.hopper.high", "zr.eval.any"} <= names and "zr.eval.default" not in names


def test_pool_that_would_mean_a_priority_is_refused(sandbox):
    sandbox.setting("pool", ["a.high"])
    assert "a.high" in sandbox.zr("topology:apply", check=2).stderr


def test_routing(broker):
    """Which queue gets which key: the contract with every other program."""
    ch = broker.channel()
    for key in ("eval.pool.default", "eval.pool.default.high", "eval.host.devhost", "event.started.1", "event.log.1",
                "event.worker.devhost", "control.cancel"):
        ch.basic_publish("zr", key, b"{}", PERSISTENT, mandatory=True)
    for queue, n in {"zr.eval.default": 1, "zr.eval.default.high": 1, "zr.host.devhost": 1, "zr.update": 2,
                     "zr.events": 3, "zr.control": 1}.items():
        wait_depth(broker, queue, n)
    with pytest.raises(pika.exceptions.UnroutableError):
        ch.basic_publish("zr", "eval.pool.nowhere", b"{}", PERSISTENT, mandatory=True)


# --- zr-echo ---

def test_echo_hears_what_matches(broker):
    ear = listen(broker, "echo.#", "event.completed.*")
    ch = broker.channel()
    ch.basic_publish("zr", "event.failed.7", b"{}", PERSISTENT)
    ch.basic_publish("zr", "event.completed.7", b"{}", PERSISTENT)
    assert broker.zr("worker:test:echo", "is anybody there?").stdout == "Message delivered successfully !!\n"
    seen = wait_lines(ear, 2)
    assert len(seen) == 2 and "event.completed.7 missing-field" in seen[0] and "echo is anybody there?" in seen[1]
    ear.stop()


def test_echo_counts_and_ends(broker):
    ear = listen(broker, "--json", "--count", 3)
    ch = broker.channel()
    for i in range(5):
        ch.basic_publish("zr", f"echo.{i}", json.dumps(dict(ECHO, message=str(i))), PERSISTENT)
    assert ear.wait() == 0
    seen = [json.loads(line) for line in lines(ear)]
    assert [s["routing_key"] for s in seen] == ["echo.0", "echo.1", "echo.2"]
    assert [s["body"]["message"] for s in seen] == ["0", "1", "2"] and {s["bad"] for s in seen} == {None}


def test_test_echo_without_a_listener_says_so(broker):
    assert "nobody listens" in broker.zr("worker:test:echo", "x", check=1).stderr


def test_looking_takes_nothing(broker):
    ch = broker.channel()
    for i in range(130):
        ch.basic_publish("zr", "eval.pool.default", str(i).encode(), PERSISTENT)
    for args, n in ((), 130), (("--count", 5), 5):
        r = broker.run("zr-echo", "--queue", "zr.eval.default", "--json", *args)
        assert [json.loads(line)["body"] for line in r.stdout.splitlines()] == [str(i) for i in range(n)]
    wait_depth(broker, "zr.eval.default", 130)
    assert "no queue" in broker.run("zr-echo", "--queue", "zr.nowhere", check=2).stderr


def test_consume_takes_what_it_prints_and_no_more(broker):
    ch = broker.channel()
    for i in range(10):
        ch.basic_publish("zr", "eval.pool.default", str(i).encode(), PERSISTENT)
    r = broker.run("zr-echo", "--queue", "zr.eval.default", "--consume", "--count", "4", "--json")
    assert [json.loads(line)["body"] for line in r.stdout.splitlines()] == ["0", "1", "2", "3"]
    wait_depth(broker, "zr.eval.default", 6)


def test_stream_is_read_from_its_start(broker):
    ch = broker.channel()
    for i in range(3):
        ch.basic_publish("zr", f"event.log.{i}", b"{}", PERSISTENT)
    for offset, want in ("first", ["event.log.0", "event.log.1", "event.log.2"]), ("1", ["event.log.1", "event.log.2"]):
        r = broker.run("zr-echo", "--queue", "zr.events", "--from", offset, "--json", "--count", len(want))
        seen = [json.loads(line) for line in r.stdout.splitlines()]
        assert [s["routing_key"] for s in seen] == want and [s["offset"] for s in seen][-1] == 2


def test_terminal_controls_and_foreign_bytes_are_escaped(broker):
    ear = listen(broker)
    ch = broker.channel()
    ch.basic_publish("zr", "echo.\x1b[31m", b"\x1b]0;title\x07\xff", PERSISTENT)
    ch.basic_publish("zr", "echo.b", json.dumps(dict(ECHO, message="a\x1b[31mb\nc")), PERSISTENT)
    text = "\n".join(wait_lines(ear, 2))
    assert "\x1b" not in text and "\x07" not in text and "\\x1b]0;title" in text and "a\\x1b[31mb\\x0ac" in text


def test_wrong_calls_of_echo(sandbox):
    for args in (["--count", "0"], ["--queue", "a", "b"], ["--consume"], ["--from", "first"], ["--nope"],
                 ["--queue", "a", "--from", "yesterday"], ["--queue", "zr.control"], ["--queue", "zr.events", "--consume"]):
        r = sandbox.run("zr-echo", *args, check=2)
        assert "--help" in r.stderr and not r.stdout
    assert "usage: zr-echo" in sandbox.run("zr-echo", "--help").stdout


def test_queue_that_goes_away_ends_the_listening(broker):
    ear = listen(broker, "--queue", "zr.host.devhost", "--consume")
    broker.amqp().channel().queue_delete("zr.host.devhost")
    assert ear.wait() == 1 and "queue was deleted" in ear.log()


# --- hostile messages ---

def deep(n):
    value = {}
    for _ in range(n):
        value = {"a": value}
    return value


HOSTILE_HEADERS = [{"": 1}, {"": {"": [{"": None}]}}, {f"h{i}": i for i in range(300)}, deep(60), {"a" * 255: "x" * 20000},
                   {"n": -1, "b": True, "l": [1, [2, [3]]], "z": None}]


def test_odd_headers_wedge_nobody(broker):
    """rabbitmq-c alone reads nothing any more after the first of these."""
    ear = listen(broker, "--json")
    ch = broker.channel()
    for headers in HOSTILE_HEADERS:
        ch.basic_publish("zr", "echo.odd", json.dumps(ECHO), pika.BasicProperties(headers=headers))
    ch.basic_publish("zr", "echo.last", json.dumps(ECHO), PERSISTENT)
    seen = [json.loads(line) for line in wait_lines(ear, len(HOSTILE_HEADERS) + 1)]
    assert {s["bad"] for s in seen} == {None} and seen[-1]["routing_key"] == "echo.last"
    assert seen[0]["headers"] == {"": 1} and seen[5]["headers"]["n"] == -1 and seen[5]["headers"]["b"] is True


def test_body_above_the_limit_is_counted_not_kept(broker):
    ear = listen(broker, "--json")
    ch = broker.channel()
    for size in (0, 1, 131072 - 8, 131072, 1 << 20, (1 << 20) + 1, 20 << 20):
        ch.basic_publish("zr", "echo.big", b"x" * size, PERSISTENT)
    ch.basic_publish("zr", "echo.last", json.dumps(ECHO), PERSISTENT)
    seen = [json.loads(line) for line in wait_lines(ear, 8, 60)]
    assert [s["size"] for s in seen[:7]] == [0, 1, 131064, 131072, 1 << 20, (1 << 20) + 1, 20 << 20]
    assert [s["bad"] for s in seen[4:7]] == ["malformed", "too-large", "too-large"] and seen[5]["body"] is None
    with open(f"/proc/{ear.pid}/status") as f:
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1))
    assert peak < 40 << 10, f"{peak} kB"


HOSTILE_BODIES = {
    b"": "malformed", b"\xff\xfe": "bad-utf8", b"[" * 100000: "too-deep", b'{"a":1,"a":2}': "duplicate-key", b"{}": "missing-field",
    b'{"zr":"2.0","type":"echo"}': "unknown-version", b'{"zr":"1.0","type":"x"}': "unknown-type",
    b'{"zr":"1.0","type":"request"}': "missing-field", b"null": "malformed", b'{"zr":1e999}': "bad-value",
    b'{"zr":"1.0","type":"echo","message":5,"at":"x"}': "bad-value",
}


def test_odd_bodies_are_named(broker):
    ear = listen(broker, "--json")
    ch = broker.channel()
    for body in HOSTILE_BODIES:
        ch.basic_publish("zr", "echo.odd", body, PERSISTENT)
    seen = [json.loads(line)["bad"] for line in wait_lines(ear, len(HOSTILE_BODIES))]
    assert seen == [b if b != "too-deep" else seen[i] for i, b in enumerate(HOSTILE_BODIES.values())]
    assert seen[2] in ("too-deep", "malformed")


def test_worker_puts_aside_what_it_cannot_read_and_goes_on(broker):
    """Original bytes, a reason each, and the message behind them is served at once."""
    worker = broker.eval_worker()
    ch = broker.channel()
    for body in HOSTILE_BODIES:
        ch.basic_publish("zr", "eval.pool.default", body, pika.BasicProperties(delivery_mode=2, headers={"": {"": 1}}))
    big = b"y" * ((1 << 20) + 1)
    ch.basic_publish("zr", "eval.pool.default", big, PERSISTENT)
    ch.basic_publish("zr", "eval.pool.default", json.dumps(ECHO), PERSISTENT)
    wait_depth(broker, "zr.dead", len(HOSTILE_BODIES) + 2)
    rows = broker.zr_json("queues:dead")
    assert {r["name"] for r in rows} == {"zr.eval.default"} and all(r["detail"] for r in rows)
    reasons = sorted(r["reason"] for r in rows)
    assert reasons == sorted([*HOSTILE_BODIES.values(), "too-large", "unknown-type"])
    dead = [ch.basic_get("zr.dead", auto_ack=True)[2] for _ in rows]
    assert sorted(dead) == sorted([*HOSTILE_BODIES, big, json.dumps(ECHO).encode()])
    assert depth(broker, "zr.eval.default") == 0
    worker.stop()


def variants(message):
    """The message with each member in turn missing, null, and of odd values."""
    for key in list(message):
        yield {k: v for k, v in message.items() if k != key}
        for value in (None, 0, -1, 1.5, 7, "", "x", "../x", "a" * 70, [], {}, [1], {"a": 0}, {"a": 1}, True, "1.5", "2.0"):
            yield {**message, key: value}
    for key, value in message.items():
        if isinstance(value, dict):
            for inner in variants(value):
                yield {**message, key: inner}
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in variants(value[0]):
                yield {**message, key: [inner]}


def corpus():
    folder = os.path.join(ROOT, "test/fuzz/corpus/message")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            try:
                yield name, json.loads(f.read())
            except ValueError:
                pass


def test_schema_and_programs_agree(broker):
    """Every message of the corpus and its variants: the published JSON Schema says what the programs say."""
    with open(os.path.join(ROOT, "conf/zr-message.schema.json")) as f:
        schema = json.load(f)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    messages = [m for _, m in corpus() if isinstance(m, dict)]
    messages += [v for m in list(messages) for v in variants(m)]
    ear = listen(broker, "--json")
    ch = broker.amqp().channel()
    for message in messages:
        ch.basic_publish("zr", "echo.x", json.dumps(message), PERSISTENT)
    seen = [json.loads(line) for line in wait_lines(ear, len(messages), 60)]
    differ = [(m, s["bad"], s["detail"]) for m, s in zip(messages, seen) if validator.is_valid(m) != (s["bad"] is None)]
    assert not differ, f"{len(differ)} of {len(messages)}: {differ[:3]}"
    assert sum(s["bad"] is None for s in seen) > 50


# --- the dead queue ---

def bury(ch, body, queue="zr.eval.default", reason="malformed", ident=None, **headers):
    ch.basic_publish("zr.dead", "x", body, pika.BasicProperties(
        delivery_mode=2, message_id=ident, headers={"zr-reason": reason, "zr-detail": "a sentence", "zr-queue": queue,
                                                    "zr-at": "2026-11-21T23:00:00.000000Z", **headers}))


def test_dead_messages_are_listed_and_stay(broker):
    ch = broker.channel()
    bury(ch, b"not json \xff" * 100, ident="m-1")
    bury(ch, b"{}", reason="missing-field", queue="zr.update")
    ch.basic_publish("zr.dead", "x", b"?", pika.BasicProperties(headers={"": 1}))
    wait_depth(broker, "zr.dead", 3)
    for _ in range(2):
        rows = broker.zr_json("queues:dead")
        assert [(r["name"], r["reason"]) for r in rows] == [("zr.eval.default", "malformed"), ("zr.update", "missing-field"),
                                                           (None, "unknown")]
    assert rows[0]["id"] == "m-1" and rows[0]["detail"] == "a sentence" and rows[0]["size"] == 1000
    assert len(rows[0]["body"]) <= 200 and "�" in rows[0]["body"]
    assert len(broker.zr_json("queues:dead", "--limit", 1)) == 1
    wait_depth(broker, "zr.dead", 3)


def test_what_the_broker_buries_itself_has_its_reason(broker):
    ch = broker.channel()
    ch.basic_publish("zr", "eval.pool.default", b"x", PERSISTENT)
    ch.basic_publish("zr", "eval.pool.default", b"y" * ((1 << 20) + 1), PERSISTENT)
    ch.basic_publish("zr", "eval.pool.default", b"", PERSISTENT)
    for _ in range(3):
        method = wait_for(lambda: ch.basic_get("zr.eval.default")[0])
        ch.basic_reject(method.delivery_tag, requeue=False)
    wait_depth(broker, "zr.dead", 3)
    rows = broker.zr_json("queues:dead")
    assert {(r["name"], r["reason"], r["body"]) for r in rows} == {("zr.eval.default", "rejected", "x"),
                                                                  ("zr.eval.default", "rejected", ""),
                                                                  ("zr.eval.default", "too-large", None)}
    today = datetime.datetime.now(datetime.timezone.utc)
    assert all(abs(today - datetime.datetime.fromisoformat(r["at"])) < datetime.timedelta(hours=1) for r in rows)
    ids = {r["body"]: r["id"] for r in rows}
    assert len(set(ids.values())) == 3 and "message_max" in [r["detail"] for r in rows if r["body"] is None][0]
    # The one that is too large keeps its place, whatever else has no body.
    assert broker.zr("queues:requeue", ids[""]).stdout == "1 sent back\n"
    assert ids[None] in broker.zr("queues:requeue", ids[None], check=1).stderr


def test_requeue_by_id_reason_and_all(broker):
    ch = broker.channel()
    bury(ch, b"one", ident="m-1")
    bury(ch, b"two", reason="bad-value")
    bury(ch, b"three", ident="m-3")
    wait_depth(broker, "zr.dead", 3)
    assert broker.zr("queues:requeue", "m-3").stdout == "1 sent back\n"
    assert broker.zr("queues:requeue", "--reason", "bad-value").stdout == "1 sent back\n"
    assert "not in the dead queue" in broker.zr("queues:requeue", "m-3", check=1).stderr
    assert broker.zr("queues:requeue", "--all").stdout == "1 sent back\n"
    wait_depth(broker, "zr.dead", 0)
    wait_depth(broker, "zr.eval.default", 3)
    got = {ch.basic_get("zr.eval.default", auto_ack=True)[2] for _ in range(3)}
    assert got == {b"one", b"two", b"three"}
    broker.zr("queues:requeue", check=2)
    broker.zr("queues:requeue", "--all", "m-1", check=2)


def test_requeue_leaves_what_has_no_place_to_go(broker):
    ch = broker.channel()
    bury(ch, b"one", queue="zr.gone", ident="m-1")
    ch.basic_publish("zr.dead", "x", b"?", PERSISTENT)
    bury(ch, b"two", ident="m-2")
    wait_depth(broker, "zr.dead", 3)
    r = broker.zr("queues:requeue", "--all", check=1)
    assert r.stdout == "1 sent back\n" and "zr.gone" in r.stderr and "from which queue" in r.stderr
    wait_depth(broker, "zr.dead", 2)


def test_requeue_of_many(broker):
    ch = broker.channel()
    for i in range(150):
        bury(ch, str(i).encode())
    wait_depth(broker, "zr.dead", 150)
    assert broker.zr("queues:requeue", "--all").stdout == "150 sent back\n"
    wait_depth(broker, "zr.dead", 0)
    wait_depth(broker, "zr.eval.default", 150)


def test_queues_lists_what_waits(broker):
    broker.channel().basic_publish("zr", "eval.pool.default", b"x", PERSISTENT)
    wait_depth(broker, "zr.eval.default", 1)
    rows = {r["name"]: r for r in broker.zr_json("queues")}
    assert rows["zr.eval.default"]["messages"] == 1 and rows["zr.eval.default"]["consumers"] == 0
    assert {r["reason"] for r in rows.values()} == {None} and {r["state"] for r in rows.values()} == {"ready"}
    broker.amqp().channel().queue_delete("zr.host.devhost")
    rows = {r["name"]: r for r in broker.zr_json("queues")}
    assert rows["zr.host.devhost"]["state"] == "missing" and "topology:apply" in rows["zr.host.devhost"]["reason"]


# --- settings that cannot work ---

def test_wrong_password_is_one_line_and_status_2(broker):
    url = re.sub(r":[^:@]+@", ":S3CRET@", broker.env["AMQP_URL"])
    for argv in (["zr", "queues"], ["zr-echo"]):
        r = broker.run(*argv, env={"AMQP_URL": url}, check=2)
        assert len(r.stderr.splitlines()) == 1 and "password" in r.stderr and "S3CRET" not in r.stderr


def test_missing_virtual_host(broker):
    r = broker.zr("queues", env={"AMQP_URL": broker.env["AMQP_URL"] + "nope"}, check=2)
    assert "virtual host" in r.stderr and len(r.stderr.splitlines()) == 1


def test_bad_url_is_refused_without_showing_it(sandbox):
    for url in ("http://u:S3CRET@h", "amqp://u:S3CRET%4@h", "amqp://u:S3CRET@h:99999/"):
        r = sandbox.zr("queues", env={"AMQP_URL": url}, check=2)
        assert "S3CRET" not in r.stderr and "amqp" in r.stderr.lower()


def test_nobody_there_is_status_75(sandbox):
    r = sandbox.zr("queues", env={"AMQP_URL": "amqp://u:S3CRET@127.0.0.1:1/v"}, check=75)
    assert "refused" in r.stderr and "S3CRET" not in r.stderr


# --- brokers that lie ---

LIES = {
    "http": (["HTTP/1.1 400 Bad Request\r\n\r\n".encode()], "not AMQP"),
    "other version": ([b"AMQP\x00\x01\x00\x00"], "another version"),
    "giant frame": ([b"\x01\x00\x00\xff\xff\xff\xff"], "above the agreed"),
    "no frame end": ([liar.START[:-1] + b"\x00"], "does not end"),
    "garbage method": ([liar.raw_frame(1, 0, b"\x00\x0a\x00\x0a\xff")], "method 0x"),
    "unknown method": ([liar.raw_frame(1, 0, b"\x77\x77\x77\x77")], "method 0x77777777"),
    "out of order": ([liar.OPEN_OK], "out of order"),
    "tiny frames": ([liar.START, liar.tune(frame_max=64)], "smaller than AMQP allows"),
    "body from nowhere": ([liar.START, liar.TUNE + liar.OPEN_OK + liar.raw_frame(1, 4, b"\x00\x14\x00\x0b" + b"\x00" * 4)
                           + liar.raw_frame(3, 4, b"x")], None),
    "answer to nothing": ([liar.START, liar.TUNE, liar.OPEN_OK,
                           liar.raw_frame(1, 2, b"\x00\x32\x00\x0b\x01q" + b"\x00" * 8) * 2], None),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_broker_is_left_and_tried_again(sandbox, name):
    steps, said = LIES[name]
    fake = liar.Liar(*steps)
    try:
        ear = listen(sandbox, ready=False, env={"AMQP_URL": fake.url()})
        if said:
            ear.wait_log(re.escape(said))
            wait_for(lambda: fake.connections >= 2, 10, "a second attempt")
        else:
            wait_for(lambda: fake.connections >= 1, 10)
        assert ear.alive() and "S3CRET" not in ear.log()
        ear.stop()
    finally:
        fake.stop()


def test_hanging_up_at_the_login_means_the_password(sandbox):
    fake = liar.Liar(liar.START, b"", hang_up=True)
    try:
        ear = listen(sandbox, ready=False, env={"AMQP_URL": fake.url()})
        assert ear.wait() == 2 and "check user and password" in ear.log()
    finally:
        fake.stop()


def test_attempts_become_rare(sandbox):
    fake = liar.Liar(liar.START, liar.close(541, "INTERNAL_ERROR"))
    try:
        ear = listen(sandbox, ready=False, env={"AMQP_URL": fake.url()})
        time.sleep(3)
        assert 3 <= fake.connections <= 12
        ear.stop()
    finally:
        fake.stop()


def test_silent_broker_is_noticed_by_heartbeats(sandbox):
    fake = liar.Liar(liar.START, liar.tune(heartbeat=1), liar.OPEN_OK)
    try:
        ear = listen(sandbox, ready=False, env={"AMQP_URL": fake.url()})
        ear.wait_log("nothing heard for", 10)
        assert fake.heard.count(b"\x08\x00\x00\x00\x00\x00\x00\xce") >= 2
        ear.stop()
    finally:
        fake.stop()


# --- TLS ---

@pytest.fixture
def tls(broker, tmp_path):
    authority = Authority(tmp_path)
    port = int(re.search(r":(\d+)/", broker.env["AMQP_URL"]).group(1))
    doors = []

    def door(names=("IP:127.0.0.1", "DNS:localhost"), **kw):
        doors.append(Door(port, *authority.certificate(f"server{len(doors)}", names), **kw))
        return doors[-1]

    door.authority = authority
    yield door
    for d in doors:
        d.stop()


def through(box, door, host="127.0.0.1"):
    url = re.sub(r"@[^/]*/", f"@{host}:{door.port}/", box.env["AMQP_URL"]).replace("amqp://", "amqps://")
    return {"AMQP_URL": url}


def test_tls_with_a_known_authority(broker, tls):
    broker.setting("amqp_ca_file", tls.authority.ca)
    for host in ("127.0.0.1", "localhost"):
        broker.zr("queues", env=through(broker, tls(), host))
    ear = listen(broker, "--json", env=through(broker, tls()))
    ch = broker.channel()
    for size in (10, 100000, 900000, 10):
        ch.basic_publish("zr", "echo.x", b"x" * size, PERSISTENT)
    assert [json.loads(line)["size"] for line in wait_lines(ear, 4)] == [10, 100000, 900000, 10]
    ear.stop()


def test_tls_with_an_unknown_authority_is_refused(broker, tls):
    r = broker.zr("queues", env=through(broker, tls()), check=2)
    assert "certificate" in r.stderr and "amqp_ca_file" in r.stderr


@pytest.mark.parametrize("names", (["DNS:other.example"], ["IP:127.0.0.2"]))
def test_tls_certificate_for_another_host_is_refused(broker, tls, names):
    broker.setting("amqp_ca_file", tls.authority.ca)
    assert "mismatch" in broker.zr("queues", env=through(broker, tls(names)), check=2).stderr.lower()


def test_tls_client_certificate(broker, tls):
    broker.setting("amqp_ca_file", tls.authority.ca)
    door = tls(client_ca=tls.authority.ca)
    assert broker.zr("queues", env=through(broker, door), check=False).returncode != 0
    cert, key = tls.authority.certificate("worker-7", ["DNS:worker-7"])
    broker.setting("amqp_cert_file", cert)
    broker.setting("amqp_key_file", key)
    broker.zr("queues", env=through(broker, door))
    assert door.clients[-1]["subject"] == ((("commonName", "worker-7"),),)


# --- servers that go and come ---

@pytest.mark.parametrize("end", ("stop", "kill"))
def test_listening_goes_on_after_a_broker_restart(own_sandbox, own_services, end):
    own_sandbox.prepare()
    ear = listen(own_sandbox, "echo.#")
    own_sandbox.zr("worker:test:echo", "before")
    getattr(own_services, end)("rabbitmq")
    ear.wait_log("trying again")
    own_services.start("rabbitmq")
    ear.wait_log("connected again", 30)

    def heard():
        own_sandbox.zr("worker:test:echo", "after")
        return "echo after" in ear.log()
    wait_for(heard, 30, interval=0.3)
    assert "echo before" in ear.log()
    ear.stop()


def test_alarm_stops_publishing_and_not_settling(own_sandbox, own_services):
    """The reason for two connections: what only consumes can still acknowledge."""
    own_sandbox.prepare()
    own_sandbox.channel().basic_publish("zr", "eval.pool.default", b"x", PERSISTENT)
    ear = listen(own_sandbox, "echo.#")
    own_services.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        wait_for(own_services.in_alarm, 30, interval=0.2)
        r = own_sandbox.run("zr-echo", "--queue", "zr.eval.default", "--consume", "--count", 1, "--json")
        assert json.loads(r.stdout)["body"] == "x"
        wait_depth(own_sandbox, "zr.eval.default", 0)
        r = own_sandbox.zr("worker:test:echo", "x", check=75, timeout=30)
        assert "confirm" in r.stderr or "alarm" in r.stderr
    finally:
        own_services.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    wait_for(lambda: not own_services.in_alarm(), 30, interval=0.2)
    wait_for(lambda: own_sandbox.zr("worker:test:echo", "again", check=False).returncode == 0, 30)
    ear.stop()
