# SPDX-License-Identifier: MIT
"""What tests of zr's verbs share: a challenge, submissions, evaluations as the database and the broker have them."""
import json
import os
import re
import shutil

from lib.services import BUILD

ZR = os.path.join(BUILD, "zr")


def add_challenge(box):
    box.zr("challenges:add", "demo", "--evaluator", "hello", "-e", "--fast")
    return box


def fresh(box):
    """The sandbox as it was, with one challenge: much quicker than another sandbox. Numbers of evaluations go on, because the
    broker's streams remember them."""
    box.query("truncate challenge, submission, evaluation, attempt, event, outbox, worker, evaluator, parked_event, leaderboard "
              "restart identity cascade")
    for folder in ("submissions", "results", "incoming"):
        shutil.rmtree(os.path.join(box.state, folder), ignore_errors=True)
    shutil.rmtree(os.path.join(os.path.dirname(box.conf), "conf.d"), ignore_errors=True)
    return add_challenge(box)


def submission(box, author="ada"):
    return box.zr_id("submissions:create", "demo", box.file("kernel.c", "int x;\n"), "--author", author)


def evaluation(box, sub, pool="default", host=None):
    """A queued evaluation, as the database has it when its request was sent."""
    return box.query("insert into evaluation (submission, challenge, evaluator, pool, host, state, step, queued_at) "
                     "select %s, challenge, 'hello', %s, %s, 'queued', 1, now() from submission where id = %s returning id",
                     sub, pool, host, sub)[0][0]


ATTEMPT_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def event(box, evaluation_id, kind, seq, attempt=1, attempt_id=ATTEMPT_ID, **body):
    """An event, applied as zr-update applies it."""
    said = {"evaluation": evaluation_id, "attempt": attempt, "attempt_id": attempt_id, "seq": seq, "kind": kind,
            "at": "2026-11-21T23:00:00Z", "host": "oberon", "worker": "oberon/1", "body": body}
    box.query("select * from apply_events(%s::jsonb)", json.dumps([said]))


def why(box, e):
    r = box.zr("evaluations:why", e)
    assert r.stdout.count("\n") == 1 and r.stdout.startswith(f"{e} is ") and not r.stderr
    shown = box.zr_json("evaluations:why", e)
    assert set(shown) == {"id", "status", "reason", "why"}
    # Time passes between the two.
    assert re.sub(r" for \d+s", "", shown["why"]) in re.sub(r" for \d+s", "", r.stdout)
    return shown["why"]


def get(box, queue):
    """The next message of a queue as (properties, object), or None."""
    channel = box.channel()
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    return (properties, json.loads(body)) if method else None
