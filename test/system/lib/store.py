# SPDX-License-Identifier: MIT
"""Rows and events by hand, for tests of the database side and of zr-update."""
import datetime
import itertools
import json
import uuid

import pika

_attempts = itertools.count(1)
ENDS = {"ok": "completed", "canceled": "canceled"}
START = datetime.datetime(2026, 11, 21, 22, 0, 0, tzinfo=datetime.timezone.utc)


def attempt_id():
    """A UUIDv7-shaped name; later ones are greater."""
    return f"018f0000-0000-7000-8000-{next(_attempts):012x}"


def at(seconds):
    return (START + datetime.timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event(evaluation, kind, seq, attempt=1, ident="018f0000-0000-7000-8000-000000000000", host="oberon", worker=None, second=None,
          **body):
    return {"zr": "1.0", "type": "event", "kind": kind, "id": str(uuid.uuid4()), "evaluation": str(evaluation),
            "attempt": attempt, "attempt_id": ident, "seq": seq, "at": at(seq if second is None else second), "host": host,
            "worker": worker or f"{host}/1", "body": body}


def started(evaluation, seq=0, **kw):
    return event(evaluation, "started", seq, evaluator="hello", isolation={"level": "none"}, **kw)


def progress(evaluation, seq, done, total=10, **kw):
    return event(evaluation, "progress", seq, done=done, total=total, fraction=done / total, phase="run", **kw)


def end(evaluation, seq, reason="ok", scores=None, root_hash=None, retries=None, **kw):
    """completed, failed or canceled, as the reason says."""
    body = {"reason": reason, "detail": f"it ended: {reason}", "exit_code": 0 if reason == "ok" else 1, "phase": "run",
            "scores": scores, "root_hash": root_hash, "started_at": at(0), "finished_at": at(seq)}
    if retries is not None:
        body["retries"] = retries
    return event(evaluation, ENDS.get(reason, "failed"), seq, **kw, **body)


def history(evaluation, ident=None, scores=None, **kw):
    ident = ident or attempt_id()
    return [started(evaluation, 0, ident=ident), progress(evaluation, 1, 5, ident=ident),
            end(evaluation, 2, scores=scores, ident=ident, **kw)]


def key(message):
    return f"event.{message['kind']}.{message['evaluation']}"


def publish(channel, *messages, routing_key=None, body=None):
    """Confirmed and mandatory. `body` replaces the bytes."""
    for m in messages or ({"id": str(uuid.uuid4())},):
        channel.basic_publish(
            "zr", routing_key or key(m), body if body is not None else json.dumps(m),
            pika.BasicProperties(message_id=m["id"], delivery_mode=2, content_type="application/json", app_id="test"), mandatory=True)


def challenge(sandbox, label="c1"):
    return sandbox.query("insert into challenge (label, evaluator) values (%s, 'hello') returning id", label)[0][0]


def submission(sandbox, author="ann", challenge_id=1):
    return sandbox.query("insert into submission (challenge, author, state) values (%s, %s, 'uploaded') returning id",
                         challenge_id, author)[0][0]


def evaluations(sandbox, n=1, submission_id=1, challenge_id=1, max_attempts=1, request=None):
    """Ids of n fresh evaluations, queued. With `request` they can be asked for again."""
    rows = sandbox.query(
        "insert into evaluation (submission, challenge, evaluator, state, step, queued_at, max_attempts)"
        " select %s, %s, 'hello', 'queued', 1, now(), %s from generate_series(1, %s) returning id",
        submission_id, challenge_id, max_attempts, n)
    if request:
        sandbox.query("update evaluation set request_exchange = 'zr', request_key = 'eval.pool.default', request = %s where id = any(%s)",
                      json.dumps(request), [r[0] for r in rows])
    return [r[0] for r in rows]


def outcome(sandbox, evaluation):
    return sandbox.query("select state, reason, attempt, attempt_id::text from evaluation where id = %s", evaluation)[0]
