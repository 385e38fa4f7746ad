# SPDX-License-Identifier: MIT
"""The main job through the programs a person uses: submit, evaluate, record, collect, rank."""
import glob
import json
import os
import re
import signal
import time

import pytest

from lib import boxes
from lib.wait import wait_for

SCORE = """#!/bin/sh
set -e
n=$(wc -c <"$ZR_SUBMISSION/answer")
echo "reading $ZR_SUBMISSION"
echo '{"done":1,"total":2,"text":"half"}' >&"$ZR_PROGRESS_FD"
printf '{"score": %d, "nested": {"ok": true}}' "$n" >"$ZR_OUTPUT/scores.json"
cp "$ZR_SUBMISSION/answer" "$ZR_OUTPUT/copy"
"""

# Waits for a file outside of its box: the barrier by which a test holds a job where it wants it.
HOLD = """#!/bin/sh
echo "$ZR_ATTEMPT" >>{folder}/runs
while [ ! -e {folder}/go ]; do sleep 0.05; done
echo '{{"score": 1}}' >"$ZR_OUTPUT/scores.json"
"""


@pytest.fixture
def site(sandbox):
    sandbox.prepare()
    return sandbox


def submit(site, evaluator, content="hello", challenge=None, author="ada"):
    challenge = challenge or f"c-{evaluator}"
    if not any(c["label"] == challenge for c in site.zr_json("challenges")):
        site.zr("challenges:add", challenge, "--evaluator", evaluator)
    path = os.path.dirname(site.file(f"sub-{author}-{len(content)}/answer", content))
    return site.zr_id("submissions:create", challenge, path, "--author", author)


def hold(site, name="hold"):
    folder = os.path.join(site.dir, "barrier")
    os.makedirs(folder, exist_ok=True)
    site.evaluator(name, HOLD.format(folder=folder))
    return folder


def runs(folder):
    path = os.path.join(folder, "runs")
    return open(path).read().split() if os.path.exists(path) else []


def sealed(site):
    path = os.path.join(site.state, "sealed")
    return os.listdir(path) if os.path.isdir(path) else []


def go(folder):
    open(os.path.join(folder, "go"), "w").close()


def test_submission_becomes_scores_results_and_a_rank(site):
    site.evaluator("length", SCORE)
    site.eval_worker()
    site.update_worker()
    short, long = submit(site, "length", "abc", author="bob"), submit(site, "length", "abcdef")
    site.zr("leaderboards:create", "-f", site.file("board.json", json.dumps(
        {"label": "board", "challenge": "c-length"})))
    ids = [site.zr_id("submissions:eval", s) for s in (short, long)]
    for ident, n in zip(ids, (3, 6)):
        done = site.wait_evaluation(ident, "completed")
        assert done["reason"] == "ok" and done["exit_code"] == 0 and done["attempt"] == 1
        assert done["scores"] == {"score": n, "nested": {"ok": True}}
        assert done["host"] and done["worker"].startswith(done["host"] + "/")
        assert done["created_at"] <= done["started_at"] <= done["finished_at"]

    def stored():
        shown = site.evaluation(ids[1])
        assert shown["results"]["state"] == "stored", shown["results"]
        return shown["results"]["path"]
    path = wait_for(stored, 30)
    assert open(os.path.join(path, "copy")).read() == "abcdef"
    assert "reading" in open(os.path.join(path, ".zr", "out.log")).read()
    assert "reading" in site.zr("evaluations:logs", ids[1]).stdout

    def ranked():
        with open(os.path.join(site.state, "leaderboards", "board.json")) as f:
            board = json.load(f)
        assert [d["author_label"] for d in board["data"]] == ["ada", "bob"]
        return board
    board = wait_for(lambda: os.path.exists(os.path.join(site.state, "leaderboards", "board.json")) and ranked(), 20)
    assert "updatedOn" in board and board["data"][0]["index"] == 1

    # Collected: the eval host forgets it.
    wait_for(lambda: not sealed(site), 20, "sealed results to be released")
    wait_for(lambda: not os.listdir(os.path.join(site.state, "spool", "boxes")), 20, "boxes to be removed")


LOOK = """#!/bin/sh
echo $(stat -c '%i' ..) $(stat -c '%a' . $TMPDIR $ZR_OUTPUT) $(ls -A . $TMPDIR $ZR_OUTPUT | grep -v :$) >>{folder}/seen
{more}
"""


def test_a_box_folder_is_used_again_only_as_it_was_made(site):
    folder = os.path.join(site.dir, "seen")
    os.makedirs(folder)
    site.evaluator("look", LOOK.format(folder=folder, more=""))
    site.evaluator("mess", LOOK.format(folder=folder, more="touch .hidden; mkdir $TMPDIR/x; chmod 777 . $ZR_OUTPUT"))
    site.eval_worker("-w", "1", "--prefetch-count", "1")
    site.update_worker()
    for evaluator in ("look", "look", "mess", "look", "mess", "look"):
        site.wait_evaluation(site.zr_id("submissions:eval", submit(site, evaluator)), "completed")
        wait_for(lambda: not os.listdir(os.path.join(site.state, "spool", "boxes")), 20)
    seen = [line.split() for line in open(os.path.join(folder, "seen"))]
    assert [s[1:] for s in seen] == [["700"] * 3] * 6
    assert seen[0][0] == seen[1][0], "the second job did not get the folder of the first"


def test_a_burst_is_taken_in_batches_and_runs_once_each(site):
    folder = hold(site)
    go(folder)
    submission = submit(site, "hold")
    site.update_worker()
    ids = [site.zr_id("submissions:eval", submission) for _ in range(25)]
    site.eval_worker("-w", "1", "--prefetch-count", "8")
    ids += [site.zr_id("submissions:eval", submission) for _ in range(5)]
    for ident in ids:
        assert site.wait_evaluation(ident, "completed")["attempt"] == 1
    assert len(runs(folder)) == len(ids)


def test_what_was_taken_never_goes_back(site):
    """Whatever goes back once is buried by this queue: a batch takes no more than there are places."""
    folder = hold(site)
    go(folder)
    bury_what_goes_back(site)
    submission = submit(site, "hold")
    site.update_worker()
    ids = [site.zr_id("submissions:eval", submission) for _ in range(25)]
    site.eval_worker("-w", "1", "--prefetch-count", "8")
    for ident in ids:
        site.wait_evaluation(ident, "completed")
    assert not site.zr_json("queues:dead")


def bury_what_goes_back(site):
    """The queue of requests is made so that it does."""
    channel = site.channel()
    channel.queue_delete("zr.eval.default")
    channel.queue_declare("zr.eval.default", durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 0, "x-dead-letter-exchange": "zr.dead"})
    channel.queue_bind("zr.eval.default", "zr", "eval.pool.default")


def test_drains_give_nothing_back(site):
    """In the middle of a stream of requests: what has been handed out is run."""
    folder = hold(site)
    go(folder)
    bury_what_goes_back(site)
    submission = submit(site, "hold")
    site.update_worker()
    ids = []
    for _ in range(5):
        ids += [site.zr_id("submissions:eval", submission) for _ in range(30)]
        worker, before = site.eval_worker("-w", "1", "--prefetch-count", "4"), len(runs(folder))
        wait_for(lambda: len(runs(folder)) > before)
        worker.stop()
    site.eval_worker("-w", "1", "--prefetch-count", "4")
    for ident in ids:
        assert site.wait_evaluation(ident, "completed")["attempt"] == 1
    assert len(runs(folder)) == len(ids) and not site.zr_json("queues:dead")


def test_short_jobs_do_not_wait_behind_a_long_one(site):
    """Two workers with a place each: one of them has the long job and takes nothing else."""
    folder = hold(site)
    site.evaluator("short", "#!/bin/sh\n")
    site.update_worker()
    site.eval_worker("-w", "2", "--prefetch-count", "1")
    long = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    busy = site.evaluation(long)["worker"]
    submission = submit(site, "short")
    ids = [site.zr_id("submissions:eval", submission) for _ in range(100)]

    def all_over():
        assert all(len(w["jobs"]) <= 1 for w in site.zr_json("workers"))
        return site.query("select count(*) from evaluation where state = 'completed' and id = any(%s)", [int(i) for i in ids]) == [(len(ids),)]
    wait_for(all_over, 60)
    assert busy not in [r[0] for r in site.query("select worker from attempt where evaluation <> %s", long)]
    assert site.evaluation(long)["status"] == "running"
    go(folder)
    site.wait_evaluation(long, "completed")


def test_a_huge_request_costs_no_memory(site):
    """It goes to the dead queue as it is, and the next one is served."""
    site.evaluator("short", "#!/bin/sh\n")
    submission = submit(site, "short")
    site.update_worker()
    supervisor = site.eval_worker("-w", "1", "--prefetch-count", "1")
    site.wait_evaluation(site.zr_id("submissions:eval", submission), "completed")
    with open(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children") as f:
        worker, = f.read().split()

    def peak():
        with open(f"/proc/{worker}/status") as f:
            return int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1))
    before, channel, body = peak(), site.channel(), b"[" * (100 << 20)
    channel.basic_publish("zr", "eval.pool.default", body, mandatory=True)
    site.wait_evaluation(site.zr_id("submissions:eval", submission), "completed")
    wait_for(lambda: channel.queue_declare("zr.dead", passive=True).method.message_count == 1, 30)
    assert channel.basic_get("zr.dead", auto_ack=True)[2] == body
    # A sanitizer keeps what was freed for a while.
    assert peak() < before + (2048 if "asan" not in boxes.KEEPER else 20480), f"{peak() - before} kB"


@pytest.mark.parametrize("script, reason, code", [
    ("#!/bin/sh\necho why >&2\nexit 3\n", "exit", 3),
    ("#!/bin/sh\nkill -SEGV $$\n", "signal", None),
    ("#!/bin/no-such-interpreter\n", "setup", None),
    ("#!/bin/sh\necho '{\"a\": NaN}' >$ZR_OUTPUT/scores.json\n", "exit", 0),
    ("#!/bin/sh\necho '[1]' >$ZR_OUTPUT/scores.json\n", "exit", 0),
])
def test_failures_have_a_reason(site, script, reason, code):
    site.evaluator("bad", script)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "bad"))
    done = site.wait_evaluation(ident)
    assert (done["status"], done["reason"]) == ("failed", reason)
    assert done["exit_code"] == code and done["scores"] is None
    assert site.zr("evaluations:why", ident).stdout.strip()


def test_workers_tell_which_evaluators_they_have(site):
    site.evaluator("length", SCORE)
    site.eval_worker()
    site.update_worker()
    host = site.zr_json("settings")[0]["value"]
    wait_for(lambda: ("length", host) in {(r["name"], r["host"]) for r in site.zr_json("evaluators", "--hosts")}, 30)
    site.zr("evaluators:discover", "--save")
    rows = [r for r in site.zr_json("evaluators", "--hosts") if r["name"] == "length"]
    assert len(rows) == 1 and rows[0]["isolation"] == "none"


def test_last_lines_of_stderr_are_shown(site):
    site.evaluator("bad", "#!/bin/sh\nseq 1000 >&2\nprintf 'line 3: no such \\033 thing\\n\\n' >&2\nexit 3\n")
    site.eval_worker()
    site.update_worker()
    waited = site.zr("submissions:eval", submit(site, "bad"), "--wait", check=1)
    tail = "last lines of standard error:\n" + "".join(f"  {n}\n" for n in range(994, 1001)) + "  line 3: no such \\x1b thing\n"
    assert waited.stderr.endswith(tail), waited.stderr
    ident = waited.stdout.split()[-1]
    assert tail in site.zr("evaluations:show", ident).stdout
    assert site.evaluation(ident)["stderr"].endswith("\n1000\nline 3: no such \x1b thing")


def test_unknown_evaluator_fails_with_a_sentence(site):
    site.evaluator("length", SCORE)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "length"), "--evaluator", "nobody")
    done = site.wait_evaluation(ident, "failed")
    assert done["reason"] == "setup"
    assert "nobody" in site.zr("evaluations:why", ident).stdout


def test_wall_limit_ends_a_job_that_ignores_sigterm(site):
    site.evaluator("deaf", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n",
                   'run = "run.sh"\nwall_limit = 1s\n')
    site.setting("term_grace", "200ms")
    site.eval_worker()
    site.update_worker()
    done = site.wait_evaluation(site.zr_id("submissions:eval", submit(site, "deaf")), "failed")
    assert done["reason"] == "wall-limit"


def test_job_sees_no_secret_and_only_what_it_is_promised(site):
    site.evaluator("env", '#!/bin/sh\nenv | sort >"$ZR_OUTPUT/env"\nls -l /proc/self/fd >"$ZR_OUTPUT/fd"\n'
                          'tr "\\0" "\\n" <"/proc/$PPID/environ" >"$ZR_OUTPUT/parent" || :\n')
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "env"))
    site.wait_evaluation(ident, "completed")
    path = wait_for(lambda: site.evaluation(ident)["results"]["path"], 20)
    text = open(os.path.join(path, "env")).read() + open(os.path.join(path, "parent")).read()
    for word in ("AMQP", "DATABASE", "amqp://", "postgres", "ZR_CONF"):
        assert word not in text
    names = {line.split("=")[0] for line in text.splitlines()}
    assert {"ZR_SUBMISSION", "ZR_OUTPUT", "ZR_PROGRESS_FD", "ZR_EVALUATION_ID", "ZR_ATTEMPT"} <= names


def test_cancel_of_a_queued_evaluation_never_starts_it(site):
    folder = hold(site)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    site.zr("evaluations:cancel", ident)
    assert site.wait_evaluation(ident)["status"] == "canceled"
    site.eval_worker()
    again = site.zr_id("submissions:eval", submit(site, "hold", "other", author="bob"))
    go(folder)
    site.wait_evaluation(again, "completed")
    assert len(runs(folder)) == 1
    assert site.evaluation(ident)["status"] == "canceled"
    assert re.search(r"canceled by \S+ before it started\.", site.zr("evaluations:why", ident).stdout)


def test_cancel_of_a_running_evaluation_ends_it(site):
    folder = hold(site)
    site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.zr("evaluations:cancel", ident)
    done = site.wait_evaluation(ident, "canceled")
    assert done["reason"] == "canceled"
    assert re.search(r"canceled by \S+ while it ran\.", site.zr("evaluations:why", ident).stdout)
    wait_for(lambda: not os.listdir(os.path.join(site.state, "spool", "boxes")), 20)


def test_killed_worker_is_succeeded_and_the_job_runs_once(site):
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    worker.kill_group()
    site.eval_worker()
    go(folder)
    done = site.wait_evaluation(ident, "completed")
    assert done["attempt"] == 1 and runs(folder) == ["1"]
    assert site.query("select count(*) from event where evaluation = %s and kind = 'completed'", int(ident)) == [(1,)]


def test_cancel_while_the_worker_is_away(site):
    """The job runs on with its keeper, until a worker that comes reads of it."""
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    worker.kill_group()
    site.zr("evaluations:cancel", ident)
    site.eval_worker()
    assert site.wait_evaluation(ident, "canceled")["attempt"] == 1
    wait_for(lambda: not os.listdir(os.path.join(site.state, "spool", "boxes")), 20, "its box to be removed")
    assert runs(folder) == ["1"] and not glob.glob(f"/sys/fs/cgroup/**/zr-{site.evaluation(ident)['attempt_id']}*", recursive=True)


def test_result_that_ends_without_a_worker_is_reported_by_the_next(site):
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    worker.kill_group()
    go(folder)
    wait_for(lambda: sealed(site), 20)
    site.eval_worker()
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1
    assert runs(folder) == ["1"]


def test_sigterm_drains(site):
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    first = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    second = site.zr_id("submissions:eval", submit(site, "hold", "other", author="bob"))
    go(folder)
    assert worker.wait(20) == 0
    site.wait_evaluation(first, "completed")
    assert site.evaluation(second)["status"] == "queued"
    site.eval_worker()
    site.wait_evaluation(second, "completed")


def test_sigterm_to_every_process_drains_too(site):
    """As Ctrl-C and service managers send it: the workers hear it twice, from there and from the supervisor."""
    folder = hold(site)
    worker = site.eval_worker("-w", 2, "--prefetch-count", 1)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    os.killpg(worker.pid, signal.SIGTERM)
    worker.wait_log("draining: no new work, 1 jobs")
    go(folder)
    assert worker.wait(20) == 0
    assert "told twice" not in worker.log()
    site.wait_evaluation(ident, "completed")


def test_second_sigterm_leaves_at_once_and_the_job_goes_on(site):
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    time.sleep(0.6)  # the window in which signals count as one
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    go(folder)
    site.eval_worker()
    assert site.wait_evaluation(ident, "completed")["attempt"] == 1
    assert runs(folder) == ["1"]


def test_bad_messages_go_to_the_dead_queue_and_the_next_is_served(site):
    site.evaluator("length", SCORE)
    site.eval_worker()
    site.update_worker()
    channel = site.channel()
    bad = {"malformed": b"{", "bad-utf8": b'{"zr":"1.0","type":"request","id":"\xff"}',
           "unknown-version": b'{"zr":"9.0","type":"request"}',
           "too-deep": b"[" * 100000 + b"]" * 100000, "missing-field": b'{"zr":"1.0","type":"request"}'}
    for body in bad.values():
        channel.basic_publish("zr", "eval.pool.default", body, mandatory=True)
    ident = site.zr_id("submissions:eval", submit(site, "length"))
    site.wait_evaluation(ident, "completed", timeout=20)

    def dead():
        rows = site.zr_json("queues:dead")
        assert sorted(r["reason"] for r in rows) == sorted(bad)
        return rows
    assert all(r["name"] == "zr.eval.default" for r in wait_for(dead, 20))
    seen = [channel.basic_get("zr.dead")[2] for _ in bad]
    assert sorted(seen) == sorted(bad.values())


def test_old_bad_control_messages_are_said_once(site):
    channel = site.channel()
    for n in range(5):
        channel.basic_publish("zr", "control.x", b"{%d" % n, mandatory=True)
    worker = site.eval_worker()
    worker.wait_log("in zr.control is passed over")
    # Read in order: when the worker knows of this cancel it has seen them all.
    folder = hold(site)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.zr("evaluations:cancel", ident)
    worker.wait_log("is being canceled")
    assert worker.log().count("is passed over") == 1


def test_priority_and_host_reach_their_queues(site):
    site.evaluator("length", SCORE)
    site.update_worker()
    host = site.zr_json("settings")[0]["value"]
    one = submit(site, "length")
    ids = [site.zr_id("submissions:eval", one, "--priority", "high"),
           site.zr_id("submissions:eval", one, "--host", host)]
    site.eval_worker()
    for ident in ids:
        assert site.wait_evaluation(ident, "completed")["scores"]["score"] == 5


@pytest.mark.parametrize("places", (1, 4))
def test_normal_requests_are_not_overtaken_for_ever(site, places):
    """Where requests of high priority never end, one in 17 is another. A batch may be on its way besides."""
    site.evaluator("length", SCORE)
    one = submit(site, "length")
    normal = site.zr_id("submissions:eval", one)
    high = [site.zr_id("submissions:eval", one, "--priority", "high") for _ in range(16 + 3 * places + 1)]
    site.update_worker()
    site.eval_worker("-w", 1, "--prefetch-count", places)
    for ident in high + [normal]:
        site.wait_evaluation(ident, "completed")
    order = sorted(site.zr_json("evaluations", "--limit", 100), key=lambda e: e["started_at"])
    place = [str(e["id"]) for e in order].index(normal)
    assert 16 - places <= place <= 16 + 2 * places, place


def hand_out(channel, queue):
    """Takes a message and gives it back: it is redelivered from now on. Returns its body."""
    def taken():
        method, _properties, body = channel.basic_get(queue)
        return (method, body) if method else None
    method, body = wait_for(taken, 20)
    channel.basic_nack(method.delivery_tag, requeue=True)
    return body


def test_request_that_comes_again_runs_once(site):
    """Its acknowledgement was lost: the broker hands it out again, marked as redelivered, to another worker."""
    folder = hold(site)
    go(folder)
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    channel = site.channel()
    body = hand_out(channel, "zr.eval.default")
    worker = site.eval_worker()
    site.wait_evaluation(ident, "completed")
    worker.stop()
    channel.basic_publish("zr", "eval.pool.default", body)
    hand_out(channel, "zr.eval.default")
    worker = site.eval_worker()
    worker.wait_log("came again after it was claimed here")
    worker.stop()
    assert runs(folder) == ["1"]


def test_low_disk_stops_the_intake_until_there_is_space(site):
    folder = hold(site)
    go(folder)
    site.setting("spool_reserve", "900T")
    worker = site.eval_worker()
    worker.wait_log("less than spool_reserve is free")
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    assert site.evaluation(ident)["status"] == "queued" and not runs(folder)
    site.setting("spool_reserve", "1M")
    worker.signal(signal.SIGHUP)
    worker.wait_log("read again from")
    site.wait_evaluation(ident, "completed")


@pytest.mark.parametrize("verb", ["worker:run:eval", "worker:run:update"])
def test_wrong_broker_password_ends_the_worker_with_one_sentence(site, verb):
    url = re.sub(r"://([^:]+):[^@]+@", r"://\1:not-it@", site.env["AMQP_URL"])
    worker = site.start("zr", verb, ready=False, env={"AMQP_URL": url})
    assert worker.wait(30) == 2
    assert "not-it" not in worker.log()
    assert re.search(r"password|login|refused", worker.log(), re.I), worker.log()
    assert "trying again" not in worker.log()


def test_missing_queues_end_the_worker_with_the_cure(sandbox):
    sandbox.zr("db:migrate")
    worker = sandbox.start("zr", "worker:run:eval", ready=False)
    assert worker.wait(30) == 2
    assert "zr topology:apply" in worker.log()


@pytest.mark.parametrize("score", ["1e19", "1e308"])
def test_score_beyond_every_integer_is_a_score_like_others(site, score):
    """PostgreSQL prints it as an integer of 20 or 309 digits."""
    site.evaluator("huge", f"#!/bin/sh\necho '{{\"score\": {score}, \"third\": 0.3}}' >\"$ZR_OUTPUT/scores.json\"\n")
    site.evaluator("length", SCORE)
    site.eval_worker()
    site.update_worker()
    submission = submit(site, "huge", challenge="c")
    small = site.zr_id("submissions:eval", submit(site, "length", challenge="c", author="bob"), "--evaluator", "length")
    odd = site.zr_id("submissions:eval", submit(site, "length", challenge="c", author="eve"), "--evaluator", "length")
    ident = site.zr_id("submissions:eval", submission, "--wait")
    site.wait_evaluation(small, "completed")
    site.wait_evaluation(odd, "completed")
    assert site.evaluation(ident)["scores"] == {"score": float(score), "third": 0.3}
    assert '"third": 0.3' in site.zr("evaluations:show", ident, "--json").stdout
    # What no double holds cannot come through a worker; it must not stop the others either.
    site.query("update attempt set ending = jsonb_set(ending, '{scores,score}', '1e400') where evaluation = %s", int(odd))
    assert len(site.zr_json("evaluations")) == 3
    for verb in ("evaluations:why", "evaluations:wait"):
        site.zr(verb, ident)
    site.zr("submissions:status", submission)
    site.zr("leaderboards:create", "-f", site.file("board.json", json.dumps(
        {"label": "board", "challenge": "c", "score": "score", "order": "desc"})))
    built = site.zr("leaderboards:build", "board")
    assert "of eve" in built.stderr
    with open(os.path.join(site.state, "leaderboards", "board.json")) as f:
        assert [d["value"] for d in json.load(f)["data"]] == [float(score), 5]


def test_run_that_changes_its_submission_changes_no_later_run(site):
    site.evaluator("greedy", """#!/bin/sh
printf '{"score": %d}' "$(cat "$ZR_SUBMISSION/answer")" >"$ZR_OUTPUT/scores.json"
ls -l "$ZR_SUBMISSION/answer" >"$ZR_OUTPUT/mode"
chmod u+w "$ZR_SUBMISSION/answer"
echo 99999 >"$ZR_SUBMISSION/answer"
touch -d 2001-01-01 "$ZR_SUBMISSION/answer"
chmod 444 "$ZR_SUBMISSION/answer"
""")
    worker = site.eval_worker()
    site.update_worker()
    submission = submit(site, "greedy", "12345\n")
    for _ in range(2):
        done = site.wait_evaluation(site.zr_id("submissions:eval", submission), "completed")
        assert done["scores"] == {"score": 12345}
        path = wait_for(lambda: site.evaluation(done["id"])["results"]["path"], 20)
        assert open(os.path.join(path, "mode")).read().startswith("-r--r--r--")
    assert "is fetched again: it was changed after it had been fetched" in worker.log()
    cache = os.path.join(site.state, "cache")
    assert len([n for n in os.listdir(cache) if not n.startswith(".")]) == 1


def test_unchanged_submission_is_fetched_once(site):
    site.evaluator("length", SCORE)
    worker = site.eval_worker()
    site.update_worker()
    submission = submit(site, "length")
    found = set()
    for _ in range(2):
        site.wait_evaluation(site.zr_id("submissions:eval", submission), "completed")
        found |= {os.stat(p).st_ino for p in glob.glob(os.path.join(site.state, "cache", "*", "files"))}
    assert len(found) == 1 and "fetched again" not in worker.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_can_be_interrupted(site, number):
    site.evaluator("length", SCORE)
    waiting = site.start("zr", "submissions:eval", submit(site, "length"), "--wait", ready=False)
    waiting.wait_log("queued")
    waiting.signal(number)
    assert waiting.wait(10) == -number


def test_what_is_said_of_a_silent_worker_and_what_a_person_can_do(site):
    folder = hold(site)
    worker = site.eval_worker()
    site.update_worker()
    ident = site.zr_id("submissions:eval", submit(site, "hold"))
    wait_for(lambda: runs(folder), 20)
    site.wait_evaluation(ident, "running")
    wait_for(lambda: site.query("select 1 from worker"), 20)
    worker.kill_group()

    def told():
        site.query("update worker set seen_at = now() - interval '1 hour', heard_at = now() - interval '1 hour'")
        words = site.zr("evaluations:why", ident).stdout
        assert "after 1m of silence it counts as lost, and another attempt follows" in words, words
        return True
    wait_for(told, 20)
    # Records of silent workers are removed in the end.
    site.query("delete from worker; update attempt set started_at = started_at - interval '1 hour'")
    assert f"evaluations:cancel {ident}" in site.zr("evaluations:why", ident).stdout
    assert f"evaluations:cancel {ident}" in site.zr("evaluations:retry", ident, check=1).stderr
    site.zr("evaluations:cancel", ident)
    site.zr("evaluations:retry", ident)
    site.eval_worker()
    go(folder)
    done = site.wait_evaluation(ident, "completed")
    assert done["attempt"] == 2 and runs(folder)[-1] == "2"


def test_second_worker_on_one_state_dir_ends_with_a_sentence(site):
    site.eval_worker()
    second = site.eval_worker(ready=False)
    assert second.wait(30) == 2
    assert re.search(r"spool/events/1 is in use by another worker: .* state_dir of its own", second.log())
