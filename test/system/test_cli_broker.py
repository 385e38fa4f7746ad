# SPDX-License-Identifier: MIT
"""The verbs of zr that reach the broker and other hosts: requests, cancels, logs, pushing, doctor."""
import json
import os
import pty
import re
import subprocess
import time
import uuid

import pytest

from lib.cli import ATTEMPT_ID, ZR, add_challenge, evaluation, event, fresh, get, submission, why
from lib.sandbox import Sandbox
from lib.wait import wait_for


@pytest.fixture(scope="module")
def shared(services):
    box = Sandbox(services, f"cli-broker-{os.getpid()}")
    box.zr("db:migrate")
    box.zr("topology:apply")
    yield box
    box.close()


@pytest.fixture
def site(shared):
    """A sandbox with schema, challenge, exchanges and queues, and nothing else in it."""
    channel = shared.channel()
    for queue in ("zr.dead", "zr.update", "zr.eval.default", "zr.eval.default.high", "zr.host.devhost"):
        channel.queue_purge(queue)
    return fresh(shared)


# --- what goes to the broker ---

def test_eval_sends_a_request(site):
    sub = submission(site)
    r = site.zr("submissions:eval", sub, "-e", "--more", "-e", "a b")
    assert re.fullmatch(r"evaluation \d+\n", r.stdout) and not r.stderr
    e = r.stdout.split()[-1]
    properties, m = get(site, "zr.eval.default")
    assert properties.delivery_mode == 2 and properties.content_type == "application/json" and properties.app_id == "zr"
    assert properties.message_id == m["id"] and uuid.UUID(m["id"]).version == 7
    assert (m["zr"], m["type"], m["evaluation"], m["attempt"], m["evaluator"]) == ("1.0", "request", e, 1, "hello")
    assert m["args"] == ["--fast", "--more", "a b"] and m["priority"] == "normal"
    s = site.zr_json("submissions:status", sub)
    assert m["submission"]["id"] == sub and m["submission"]["digest"] == s["digest"]
    assert m["submission"]["source"] == f"ssh://devhost{site.state}/submissions/{sub}"
    assert s["status"] == "queued" and site.query("select count(*) from outbox")[0][0] == 0
    v = site.zr_json("evaluations:show", e)
    assert (v["status"], v["pool"], v["challenge"], v["submission"]) == ("queued", "default", "demo", int(sub))


def test_where_a_request_goes(site):
    sub = submission(site)
    site.zr("submissions:eval", sub, "--priority", "high", "--evaluator", "other")
    assert get(site, "zr.eval.default.high")[1]["evaluator"] == "other"
    site.zr("submissions:eval", sub, "--host", "devhost")
    assert get(site, "zr.host.devhost")[1]["submission"]["source"] == f"file://{site.state}/submissions/{sub}"
    site.zr("challenges:set", "demo", "--host", "devhost")
    site.zr("submissions:eval", sub)
    assert get(site, "zr.host.devhost") and not get(site, "zr.eval.default")
    site.zr("submissions:eval", sub, "--pool", "default")
    assert get(site, "zr.eval.default")
    site.setting("submissions_url", "file:///shared")
    site.zr("submissions:eval", sub, "--pool", "default")
    assert get(site, "zr.eval.default")[1]["submission"]["source"] == f"file:///shared/{sub}"


def test_eval_refuses_what_cannot_work_before_it_records_anything(site):
    sub = submission(site)
    for place, queue in (("--pool", "zr.eval.nosuch"), ("--host", "zr.host.nosuch")):
        r = site.zr("submissions:eval", sub, place, "nosuch", check=1)
        assert f"the broker has no queue {queue}" in r.stderr and "topology:apply" in r.stderr
    site.zr("submissions:delete", sub)
    assert f"submission {sub} cannot be evaluated: it is deleted" in site.zr("submissions:eval", sub, check=1).stderr
    assert site.zr_json("evaluations") == [] and site.query("select count(*) from outbox")[0][0] == 0


def test_eval_before_topology_apply(sandbox):
    sandbox.zr("db:migrate")
    add_challenge(sandbox)
    r = sandbox.zr("submissions:eval", submission(sandbox), check=1)
    assert "topology:apply" in r.stderr and sandbox.zr_json("evaluations") == []


def test_broker_away_loses_nothing(site):
    sub = submission(site)
    r = site.zr("submissions:eval", sub, env={"AMQP_URL": "amqp://u:s3cret@127.0.0.1:1/"})
    e = int(r.stdout.split()[-1])
    assert r.stdout == f"evaluation {e}\n" and "zr-update will send it" in r.stderr and r.stderr.count("\n") == 1
    assert "s3cret" not in r.stderr
    v = site.zr_json("evaluations:show", e)
    assert v["status"] == "created" and v["outbox"]["tries"] == 0
    assert "has not reached the broker yet" in why(site, e)
    assert site.query("select routing_key, body::json->>'evaluation' from outbox") == [("eval.pool.default", str(e))]
    assert site.zr("evaluations:cancel", e, env={"AMQP_URL": "amqp://127.0.0.1:1/"}).stdout == f"canceled {e}\n"
    # A request that never left is taken back.
    assert [r[0] for r in site.query("select routing_key from outbox")] == ["control.cancel"]


def test_wrong_broker_password_is_not_printed(site):
    sub = submission(site)
    wrong = re.sub(r"(amqp://[^:]+:)[^@]+@", r"\1s3cret-and-wrong@", site.env["AMQP_URL"])
    for verb in (["submissions:eval", sub], ["queues"]):
        r = site.zr(*verb, env={"AMQP_URL": wrong}, check=2)
        assert r.stderr.count("\n") == 1 and "s3cret" not in r.stderr and "amqp_url" in r.stderr, r.stderr
        assert "neither amqp:// nor" in site.zr(*verb, env={"AMQP_URL": "http://x"}, check=2).stderr
    assert site.zr_json("evaluations") == []
    assert "set amqp_url" in site.zr("--conf", conf_without(site, "amqp_url"), "submissions:eval", sub,
                                     env={"AMQP_URL": ""}, check=2).stderr


def conf_without(box, key):
    with open(box.conf) as f:
        lines = [line for line in f if not line.startswith(key)]
    path = box.file("other/zr.conf", "".join(lines))
    os.chmod(path, 0o600)
    return path


def test_cancel(site):
    sub = submission(site)
    ids = [site.zr_id("submissions:eval", sub) for _ in range(3)]
    event(site, int(ids[2]), "completed", 0, reason="ok", exit_code=0)
    r = site.zr("evaluations:cancel", *ids, check=1)
    assert r.stdout.splitlines() == [f"canceled {ids[0]}", f"canceled {ids[1]}"]
    assert f"evaluation {ids[2]} has ended already: completed" in r.stderr
    assert [site.zr_json("evaluations:show", i)["status"] for i in ids] == ["canceled", "canceled", "completed"]
    assert "was canceled already" in site.zr("evaluations:cancel", ids[0]).stderr
    event(site, int(ids[0]), "completed", 0, reason="ok", exit_code=0)
    assert site.zr_json("evaluations:show", ids[0])["status"] == "canceled"
    assert "It was canceled by " in why(site, int(ids[0]))
    assert site.query("select count(*) from outbox")[0][0] == 0
    channel = site.channel()
    channel.basic_qos(prefetch_count=10)
    seen = []
    for method, _, body in channel.consume("zr.control", arguments={"x-stream-offset": "first"}, inactivity_timeout=10):
        if method is None:
            break
        channel.basic_ack(method.delivery_tag)
        seen += [m for m in [json.loads(body)] if m["evaluation"] in ids]
        if len(seen) == 2:
            break
    assert [(m["type"], m["kind"], m["evaluation"]) for m in seen] == [("control", "cancel", i) for i in ids[:2]]
    assert seen[0]["by"].endswith("@devhost")


def test_retry(site):
    e = int(site.zr_id("submissions:eval", submission(site), "-e", "x"))
    first = get(site, "zr.eval.default")[1]
    assert "has not ended" in site.zr("evaluations:retry", e, check=1).stderr
    event(site, e, "failed", 0, reason="exit", exit_code=1)
    assert site.zr("evaluations:retry", e).stdout == f"attempt 2 of evaluation {e}\n"
    again = get(site, "zr.eval.default")[1]
    assert again["attempt"] == 2 and again["id"] != first["id"]
    same = ("evaluation", "submission", "evaluator", "args", "priority")
    assert [again[k] for k in same] == [first[k] for k in same]
    v = site.zr_json("evaluations:show", e)
    assert v["status"] == "failed" and v["settled"] is False
    assert "A further attempt was asked for" in why(site, e)
    site.zr("evaluations:wait", e, "--timeout", "100ms", check=75)
    event(site, e, "completed", 0, attempt=2, attempt_id=str(uuid.uuid4()), reason="ok", exit_code=0)
    v = site.zr_json("evaluations:show", e)
    assert (v["status"], v["attempt"], len(v["attempts"])) == ("completed", 2, 2)
    assert "ATTEMPT" in site.zr("evaluations:show", e).stdout


def test_wait_of_eval(site):
    sub = submission(site)
    for kind, reason, status in (("completed", "ok", 0), ("failed", "exit", 1)):
        p = subprocess.Popen([ZR, "submissions:eval", sub, "--wait"], env=site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True)
        e = int(p.stdout.readline().split()[-1])
        event(site, e, "started", 0)
        event(site, e, "progress", 1, done=1, total=2)
        while p.stderr.readline() != f"evaluation {e}: running on oberon/1: 1 of 2\n":
            assert p.poll() is None
        event(site, e, kind, 2, reason=reason, exit_code=status)
        out, err = p.communicate(timeout=20)
        assert p.returncode == status and out == "" and kind in err


# --- logs ---

def stored(box, e, attempt=1, **logs):
    """The evaluation's result, as the fetcher publishes it."""
    path = os.path.join(box.state, "results", str(e), str(attempt))
    os.makedirs(os.path.join(path, ".zr"))
    for name, data in logs.items():
        with open(os.path.join(path, ".zr", name + ".log"), "wb") as f:
            f.write(data)
    box.query("update attempt set results_state = 'stored', results_path = %s where evaluation = %s and attempt = %s",
              f"{e}/{attempt}", e, attempt)
    return path


def raw(box, *args):
    r = subprocess.run([ZR, *map(str, args)], env=box.env, capture_output=True, timeout=60)
    return r.returncode, r.stdout, r.stderr


def test_logs_of_a_stored_result(site):
    e = evaluation(site, submission(site))
    event(site, e, "completed", 0, reason="ok", exit_code=0, root_hash="sha256:" + "0" * 64)
    noise = bytes(range(256)) * 300
    path = stored(site, e, out=noise, err=b"oops\n")
    assert raw(site, "evaluations:logs", e)[:2] == (0, noise + b"oops\n")
    assert raw(site, "evaluations:logs", e, "--stream", "err") == (0, b"oops\n", b"")
    assert raw(site, "evaluations:logs", e, "-f", "--stream", "out") == (0, noise, b"")
    assert site.zr_json("evaluations:show", e)["results"] == {"state": "stored", "path": path, "detail": None}
    assert "has no attempt 7" in site.zr("evaluations:logs", e, "--attempt", 7, check=2).stderr
    os.unlink(os.path.join(path, ".zr", "out.log"))
    os.symlink("/etc/passwd", os.path.join(path, ".zr", "out.log"))
    status, out, err = raw(site, "evaluations:logs", e)
    assert status == 1 and b"root:" not in out and b"out.log" in err


def test_logs_on_a_terminal_are_harmless(site):
    e = evaluation(site, submission(site))
    event(site, e, "completed", 0, reason="ok", exit_code=0, root_hash="sha256:" + "0" * 64)
    stored(site, e, out=b"plain \xc3\xbc\n\x1b[31mred\x9b\x07\n" + b"long" * 300 + b"\nover\rwritten\r\nend\n")
    master, slave = pty.openpty()
    p = subprocess.Popen([ZR, "evaluations:logs", str(e)], env=site.env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while True:
            seen += os.read(master, 65536)
    except OSError:
        pass
    assert p.wait(10) == 0
    lines = seen.decode().replace("\r\n", "\n").split("\n")
    assert lines[1:] == ["plain ü", r"\x1b[31mred\x9b\x07", "long" * 300, "over", "written", "end", ""]


def say(channel, e, stream, offset, text, seq, attempt=1, attempt_id=ATTEMPT_ID, kind="log", at=None):
    body = {"stream": stream, "offset": offset, "text": text} if kind == "log" else {"reason": "ok", "exit_code": 0}
    m = {"zr": "1.0", "type": "event", "kind": kind, "id": str(uuid.uuid4()), "evaluation": str(e), "attempt": attempt,
         "attempt_id": attempt_id, "seq": seq, "at": at or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "host": "oberon",
         "worker": "oberon/1", "body": body}
    channel.basic_publish("zr", f"event.{kind}.{e}", json.dumps(m).encode())


def test_logs_from_the_stream(site):
    e = evaluation(site, submission(site))
    event(site, e, "started", 0)
    channel = site.channel()
    say(channel, e, "out", 0, "one\n", 1)
    say(channel, e + 1_000_000, "out", 0, "of another\n", 1)
    say(channel, e, "out", 0, "one\n", 1)
    say(channel, e, "out", 2, "e\ntwo\n", 2)
    say(channel, e, "err", 0, "warning\n", 3)
    say(channel, e, "out", 20, "later\n", 4)
    r = site.zr("evaluations:logs", e, "--stream", "out")
    assert r.stdout == "one\ntwo\nlater\n" and "12 bytes of standard output are missing here" in r.stderr
    assert site.zr("evaluations:logs", e, "--stream", "err").stdout == "warning\n"


@pytest.mark.parametrize("follow", [[], ["-f"]])
def test_logs_end_though_workers_go_on_beating(site, follow):
    e = evaluation(site, submission(site))
    channel = site.channel()
    say(channel, e, "out", 0, "one\n", 1)
    event(site, e, "completed", 3, reason="ok", exit_code=0)
    p = subprocess.Popen([ZR, "evaluations:logs", str(e), *follow], env=site.env, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while p.poll() is None and time.monotonic() < deadline:
        at = time.strftime("%Y-%m-%dT%H:%M:%S.999999Z", time.gmtime())
        channel.basic_publish("zr", "event.worker.oberon", json.dumps({
            "zr": "1.0", "type": "worker", "host": "oberon", "worker": "oberon/1", "pid": 7, "boot_id": ATTEMPT_ID, "since": at,
            "at": at, "state": "idle", "jobs": []}))
        channel.connection.sleep(0.2)
    p.kill()
    assert p.wait() == 0 and p.stdout.read() == "one\n"


def test_logs_follow_until_the_end(site):
    e = evaluation(site, submission(site))
    channel = site.channel()
    p = subprocess.Popen([ZR, "evaluations:logs", str(e), "-f"], env=site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    event(site, e, "started", 0)
    say(channel, e, "out", 0, "one\n", 1)
    assert p.stdout.readline() == "one\n"
    say(channel, e, "out", 4, "two\n", 2)
    assert p.stdout.readline() == "two\n"
    event(site, e, "completed", 3, reason="ok", exit_code=0)
    assert p.wait(20) == 0 and p.stdout.read() == ""


def test_logs_of_what_never_ran(site):
    e = evaluation(site, submission(site))
    r = site.zr("evaluations:logs", e)
    assert not r.stdout and "has written nothing that is known here" in r.stderr
    p = subprocess.Popen([ZR, "evaluations:logs", str(e), "-f"], env=site.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: site.query("select count(*) from pg_stat_activity where datname = current_database()")[0][0] > 1)
    site.zr("evaluations:cancel", e)
    assert p.wait(20) == 0


# --- pushing to a host ---

def test_push_to_a_host(make_sandbox):
    box = add_challenge(make_sandbox(hosts=["oberon"]).prepare())
    sub = submission(box)
    box.zr("submissions:eval", sub, "--host", "oberon")
    m = get(box, "zr.host.oberon")[1]
    assert m["submission"]["source"] == "incoming:"
    incoming = os.path.join(box.dir, "hosts/oberon/zr/incoming")
    assert os.listdir(incoming) == [m["submission"]["digest"].removeprefix("sha256:")]
    there = os.path.join(incoming, os.listdir(incoming)[0])
    here = os.path.join(box.state, "submissions", sub)
    assert sorted(os.listdir(there)) == ["manifest.json", "submission.tar.zst"]
    subprocess.run(["diff", "-r", here, there], check=True)
    # It has to be there for a further one as well, and nothing is sent twice.
    box.zr("submissions:eval", sub, "--host", "oberon")


def test_unknown_host_key_is_refused(make_sandbox):
    box = add_challenge(make_sandbox(hosts=["oberon"]).prepare())
    sub = submission(box)
    box.setting("ssh_known_hosts", box.file("no_known_hosts"))
    r = box.zr("submissions:eval", sub, "--host", "oberon", check=2)
    assert r.stderr.count("\n") == 1 and "SHA256:" in r.stderr and "oberon" in r.stderr
    assert box.zr_json("evaluations") == []
    doctor = {line["check"]: line for line in json.loads(box.zr("doctor", "--json", check=1).stdout)}
    assert doctor["ssh oberon"]["status"] == "fail" and "ssh_known_hosts" in doctor["ssh oberon"]["cure"]


# --- doctor ---

def lines(box, status, **kw):
    found = {}
    for line in json.loads(box.zr("doctor", "--json", check=status, **kw).stdout):
        found.setdefault(line["check"], []).append(line)
        assert set(line) == {"check", "status", "text", "cure"} and line["status"] in ("ok", "warn", "fail")
    return found


def test_doctor(site):
    found = lines(site, 0)
    assert {"settings", "broker", "database", "workers", "ssh devhost", "state_dir", "clock", "gpu", "cgroup", "sandbox", "evaluators"} <= set(found)
    for check in ("settings", "broker", "database", "ssh devhost", "state_dir"):
        assert [line["status"] for line in found[check]] == ["ok"], found[check]
    text = site.zr("doctor").stdout
    assert re.search(r"^ok    broker ", text, re.M) and re.search(r"^warn  workers ", text, re.M)


def test_doctor_finds(sandbox):
    found = lines(sandbox, 1)
    assert found["database"][0]["status"] == "fail" and "zr db:migrate" in found["database"][0]["text"]
    assert any(line["cure"] == "zr topology:apply" or "topology:apply" in line["text"] for line in found["broker"])
    wrong = {"AMQP_URL": "amqp://u:s3cret@127.0.0.1:1/", "DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/x"}
    found = lines(sandbox, 1, env=wrong)
    assert found["broker"][0]["status"] == found["database"][0]["status"] == "fail"
    assert "s3cret" not in json.dumps(found)
    sandbox.evaluator("broken", "", conf="run = 5 7\n")
    sandbox.setting("spool_reserve", "900T")
    found = lines(sandbox, 1)
    assert any("broken" in line["text"] and line["status"] == "fail" for line in found["evaluators"])
    assert found["state_dir"][0]["status"] == "fail" and "spool_reserve" in found["state_dir"][0]["text"]


def test_doctor_sees_what_waits(site):
    site.zr("submissions:eval", submission(site))
    site.channel().basic_publish("zr.dead", "", b"{}")
    found = lines(site, 0)
    texts = " ".join(line["text"] for line in found["broker"])
    assert "wait in zr.eval.default and nobody takes them" in texts and "in the dead queue" in texts


def test_doctor_has_a_cure_for_every_warning(site):
    site.evaluator("old", "#!/bin/sh\n", 'run = "run.sh"\narch = "pdp11"\n')
    lines = json.loads(site.zr("doctor", "--json", check=False).stdout)
    assert "old" in [line for line in lines if "pdp11" in line["text"]][0]["text"]
    assert not [line for line in lines if line["status"] == "warn" and not line["cure"]]
    newest = site.zr("db:migrate").stderr.split()[-1]
    assert [line["text"] for line in lines if line["check"] == "database"] == [f"connected, schema {newest}"]
