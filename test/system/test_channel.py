# SPDX-License-Identifier: MIT
"""Workers that share a folder instead of a broker: zr-channel(7)."""
import collections
import json
import os
import signal
import subprocess
import tempfile

import pytest

from lib import processes
from lib.daemon import Daemon
from lib.folder import Site, put
from lib.services import BUILD
from lib.wait import stays, wait_for

COUNT = """#!/bin/sh
echo "$ZR_EVALUATION_ID" >>{folder}/runs
printf '{{"score": %d}}' "$(wc -c <"$ZR_SUBMISSION/answer")" >"$ZR_OUTPUT/scores.json"
"""
HOLD = """#!/bin/sh
echo "$ZR_EVALUATION_ID $ZR_ATTEMPT" >>{folder}/runs
while [ ! -e {folder}/go ]; do sleep 0.05; done
echo '{{"score": 1}}' >"$ZR_OUTPUT/scores.json"
"""


@pytest.fixture(params=["inotify", "poll"])
def watch(request):
    return request.param


@pytest.fixture
def make_site():
    made = []

    def make(**settings):
        site = Site(**settings)
        made.append(site)
        for name, script in (("count", COUNT), ("hold", HOLD)):
            site.evaluator(name, script.format(folder=site.dir))
        return site
    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site):
    return make_site()


def runs(site):
    path = os.path.join(site.dir, "runs")
    return open(path).read().splitlines() if os.path.exists(path) else []


def go(site):
    open(os.path.join(site.dir, "go"), "w").close()


def test_requests_become_events_and_nothing_stays(make_site, watch):
    site = make_site(channel_watch=watch)
    host = site.host("oberon")
    worker = host.start()
    for i in range(3):
        site.submit(i, "count")
    ends = [site.wait_end(i) for i in range(3)]
    for e in ends:
        assert e["kind"] == "completed" and e["body"]["scores"] == {"score": 5} and e["attempt"] == 1
        assert e["host"] == "oberon" and e["worker"] == "oberon/1"
    assert sorted(runs(site)) == ["0", "1", "2"]
    wait_for(lambda: not site.claims(), 10)
    assert site.names("requests") == site.names("dead") == []
    # The path of the result is in the event, and what lies there is what the evaluator wrote.
    pack = os.path.join(ends[0]["results"], "result.tar.zst")
    assert "scores.json" in subprocess.run(["tar", "--zstd", "-tf", pack], check=True, capture_output=True, text=True).stdout
    # A worker that leaves says so and leaves no folder behind.
    worker.stop()
    with open(site.path("workers", "oberon.1.json")) as f:
        assert json.load(f)["state"] == "gone"
    assert site.names("claimed") == []
    # A collected result goes when its release is put there.
    host.start()
    attempt = ends[0]["attempt_id"]
    put(site.path("control"), "r.json", {"zr": "1.0", "type": "control", "kind": "release", "evaluation": "0",
                                         "attempt_id": attempt, "at": "2026-11-27T00:00:00Z"})
    wait_for(lambda: not os.path.exists(ends[0]["results"]), 10)
    assert os.path.exists(ends[1]["results"])


def test_order_of_names_and_no_more_than_there_are_places(site):
    host = site.host("oberon")
    for i in (5, 3, 4, 1, 2):
        site.submit(i, "hold", name=f"n{i}.json")
    host.start("-w", 1, "--prefetch-count", 2)
    wait_for(lambda: len(runs(site)) == 2)
    assert sorted(runs(site)) == ["1 1", "2 1"] and len(site.names("requests")) == 3
    # What comes now with an early name is before those that wait.
    site.submit(0, "hold", name="a.json")
    go(site)
    for i in range(6):
        site.wait_end(i)
    assert sorted(runs(site)[2:4]) == ["0 1", "3 1"]


@pytest.mark.parametrize("content, reason", [
    (b"{", "malformed"), (b"[1]", "malformed"), (b"\xff{}", "bad-utf8"), (b"x" * (2 << 20), "too-large"), (b'{"zr":"1.0"}', "missing-field"),
    (b'{"zr":"1.0","type":"echo","message":"x","at":"2026-11-21T23:00:00Z"}', "unknown-type")],
    ids=["torn", "list", "bytes", "large", "empty", "echo"])
def test_what_is_no_request_is_put_aside_as_it_came(site, content, reason):
    host = site.host("oberon")
    host.start(ready=False)
    wait_for(lambda: os.path.isdir(site.path("requests")))
    put(site.path("requests"), "bad.json", content)
    dead = wait_for(lambda: len(n := site.names("dead")) == 2 and n)
    assert dead[0].endswith("-bad.json") and dead[1] == dead[0] + ".reason"
    with open(site.path("dead", dead[0]), "rb") as f:
        assert f.read() == content
    with open(site.path("dead", dead[1])) as f:
        said = json.load(f)
    assert said["reason"] == reason and said["file"] == "bad.json" and said["detail"]
    site.submit(1, "count")
    assert site.wait_end(1)["kind"] == "completed"


def test_odd_things_in_the_folder(site):
    host = site.host("oberon")
    host.start(ready=False)
    wait_for(lambda: os.path.isdir(site.path("control")))
    os.mkdir(site.path("requests", "folder.json"))
    os.mkfifo(site.path("requests", "fifo.json"))
    os.symlink("/etc/passwd", site.path("requests", "link.json"))
    put(site.path("requests"), "x" * 240 + ".json", b"no")
    open(site.path("requests", "half.tmp"), "w").close()
    put(site.path("control"), "bad.json", b"no")
    os.mkdir(site.path("control", "folder.json"))
    site.submit("z", "count")
    assert site.wait_end("z")["kind"] == "completed"
    assert len(wait_for(lambda: len(n := site.names("dead")) == 8 and n)) == 8
    assert site.names("requests") == ["half.tmp"] and os.path.isfile("/etc/passwd")


def test_an_unknown_evaluator_ends_as_failed(site):
    site.host("oberon").start()
    site.submit(1, "nobody")
    end = site.wait_end(1)
    assert end["kind"] == "failed" and end["body"]["reason"] == "setup" and "nobody" in end["body"]["detail"]
    wait_for(lambda: not site.claims(), 10)


def test_cancel_of_a_running_one_and_of_one_that_waits(site):
    site.host("oberon").start("-w", 1, "--prefetch-count", 1)
    site.submit(1, "hold")
    wait_for(lambda: runs(site))
    site.submit(2, "hold")
    site.cancel(2)
    site.cancel(1)
    assert site.wait_end(1)["kind"] == "canceled"
    assert site.wait_end(2)["kind"] == "canceled"
    assert runs(site) == ["1 1"]
    wait_for(lambda: not site.claims(), 10)
    # Control messages stay for other workers, and for this one after a restart.
    assert len(site.names("control")) == 2


def test_many_workers_of_many_hosts_take_each_request_once(make_site, watch):
    site = make_site(channel_watch=watch)
    for i in range(150):
        site.submit(i, "count")
    for name in ("oberon", "puck"):
        site.host(name).start("-w", 2, "--prefetch-count", 3)
    wait_for(lambda: len(site.ends()) == 150, 60)
    ends = collections.Counter(e["evaluation"] for e in site.ends())
    assert set(ends.values()) == {1} and sorted(runs(site), key=int) == [str(i) for i in range(150)]
    wait_for(lambda: not site.claims() and not site.names("requests"), 10)
    assert {e["host"] for e in site.ends()} == {"oberon", "puck"}


def test_a_killed_worker_is_followed_by_the_next(site):
    host = site.host("oberon")
    worker = host.start("-w", 1, "--prefetch-count", 2)
    for i in (1, 2, 3):
        site.submit(i, "hold")
    wait_for(lambda: len(runs(site)) == 2)
    wait_for(lambda: all(c.endswith(".run") for c in site.claims()))
    worker.kill_group()
    assert len(site.claims()) == 2
    host.start("-w", 1, "--prefetch-count", 2)
    go(site)
    for i in (1, 2, 3):
        assert site.wait_end(i)["kind"] == "completed"
    assert sorted(runs(site)) == ["1 1", "2 1", "3 1"] and len(site.ends()) == 3
    wait_for(lambda: not site.claims(), 10)


def test_fewer_workers_than_before_leave_nothing_lying(site):
    host = site.host("oberon")
    worker = host.start("-w", 3, "--prefetch-count", 1)
    for i in range(3):
        site.submit(i, "hold")
    wait_for(lambda: len(runs(site)) == 3)
    worker.kill_group()
    host.start("-w", 1, "--prefetch-count", 3)
    go(site)
    for i in range(3):
        assert site.wait_end(i)["kind"] == "completed"
    assert len(runs(site)) == 3
    wait_for(lambda: not site.claims(), 10)


def test_what_a_worker_had_taken_and_not_begun_is_begun_by_the_next(site):
    host = site.host("oberon")
    folder = site.path("claimed", "oberon.1")
    os.makedirs(folder)
    taken = "01890a5d-ac96-774b-bcce-b302099a8057"
    put(folder, f"{taken}-a.json", site.request(1, "count"))
    put(folder, f"2.1.{taken}.req", site.request(2, "count"))
    put(folder, f"{taken}.lost", site.request(3, "count"))
    put(folder, f"3.2.{taken}.req", site.request(3, "count", attempt=2))
    put(folder, f"{taken[:-1]}8-b.json", b"no")
    host.start()
    assert [site.wait_end(i)["attempt"] for i in (1, 2, 3)] == [1, 1, 2]
    assert sorted(runs(site)) == ["1", "2", "3"] and len(site.names("dead")) == 2
    wait_for(lambda: not site.claims(), 10)


def test_what_a_lost_host_held_goes_on_elsewhere(make_site):
    site = make_site(lease="3s")
    oberon = site.host("oberon").start("-w", 1, "--prefetch-count", 2)
    site.submit(1, "hold")
    site.submit(2, "hold")
    wait_for(lambda: len(runs(site)) == 2)
    puck = site.host("puck").start("-w", 1, "--prefetch-count", 2)
    # Those that are heard of keep what they have.
    assert stays(lambda: len(site.claims()) == 2 and all(c.startswith("oberon") for c in site.claims()), 6) is None
    for pid in [oberon.pid, *_workers(oberon)]:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: sorted(runs(site)) == ["1 1", "1 2", "2 1", "2 2"], 30)
    puck.wait_log("evaluation 1 is begun here as attempt 2: worker oberon.1 is not heard of any more")
    go(site)
    for i in (1, 2):
        end = site.wait_end(i)
        assert end["kind"] == "completed" and end["attempt"] == 2 and end["host"] == "puck"
    # The host comes back: its keepers have ended what was theirs, and it says so.
    for pid in [oberon.pid, *_workers(oberon)]:
        os.kill(pid, signal.SIGCONT)
    for i in (1, 2):
        site.wait_end(i, n=2)
        by_attempt = {e["attempt"]: e for e in site.ends(i)}
        assert by_attempt[1]["kind"] == "failed" and by_attempt[1]["body"]["reason"] == "lost"
        assert by_attempt[2]["kind"] == "completed"
    wait_for(lambda: not site.claims(), 10)


def _workers(daemon):
    out = subprocess.run(["pgrep", "-P", str(daemon.pid), "-f", "--", "--worker="], capture_output=True, text=True).stdout
    return [int(p) for p in out.split()]


def test_a_request_that_takes_hosts_down_is_put_aside(make_site):
    site = make_site(lease="3s", infrastructure_retries=1)
    folder = site.path("claimed", "titania.1")
    os.makedirs(folder)
    taken = "01890a5d-ac96-774b-bcce-b302099a8057"
    put(folder, f"1.2.{taken}.run", site.request(1, "count", attempt=2, tries={"own": 0, "infrastructure": 1, "killed": 0}))
    site.host("oberon").start()
    # Whoever was never heard of has as long as the others.
    assert stays(lambda: site.claims(), 3) is None
    dead = wait_for(lambda: len(n := site.names("dead")) == 2 and n, 30)
    with open(site.path("dead", dead[1])) as f:
        assert json.load(f)["reason"] == "lost"
    assert not runs(site)


# Fails until the attempt that is asked for.
FAIL = """#!/bin/sh
echo "$ZR_EVALUATION_ID $ZR_ATTEMPT" >>{folder}/runs
[ "$ZR_ATTEMPT" -ge {good} ] || exit 3
echo '{{"score": 1}}' >"$ZR_OUTPUT/scores.json"
"""


@pytest.fixture
def failing(make_site, watch):
    site = make_site(channel_watch=watch, retry_delay="0s")
    for name, good, conf in (("third", 3, "retries = 2\n"), ("fourth", 4, "retries = 2\n"), ("once", 2, "")):
        site.evaluator(name, FAIL.format(folder=site.dir, good=good), conf)
    return site


def test_attempts_that_failed_are_followed_as_the_evaluator_allows(failing):
    site = failing
    site.host("oberon").start()
    for name in ("third", "fourth", "once"):
        site.submit(name, name)
    ends = {name: site.wait_end(name, n=n) and sorted(site.ends(name), key=lambda e: e["attempt"])
            for name, n in (("third", 3), ("fourth", 3), ("once", 1))}
    said = {name: [(e["attempt"], e["kind"], e.get("again")) for e in found] for name, found in ends.items()}
    assert said == {"third": [(1, "failed", 2), (2, "failed", 3), (3, "completed", None)],
                    "fourth": [(1, "failed", 2), (2, "failed", 3), (3, "failed", None)], "once": [(1, "failed", None)]}
    assert len({e["attempt_id"] for found in ends.values() for e in found}) == 7
    wait_for(lambda: not site.claims(), 10)
    assert stays(lambda: site.names("requests") == [] and len(runs(site)) == 7, 1.5) is None


def test_whoever_waits_for_an_evaluation_waits_for_its_last_attempt(failing):
    failing.host("oberon").start()
    zr = subprocess.run([os.path.join(BUILD, "zr"), "channel:submit", failing.channel, "third", failing.submission.dir, "--wait"],
                        capture_output=True, text=True, timeout=60)
    assert zr.returncode == 0 and json.loads(zr.stdout)["attempt"] == 3


def test_a_further_attempt_waits_and_a_cancel_meets_it(make_site):
    site = make_site(retry_delay="10m")
    site.evaluator("third", FAIL.format(folder=site.dir, good=3), "retries = 2\n")
    host = site.host("oberon")
    worker = host.start()
    site.submit(1, "third")
    assert site.wait_end(1)["again"] == 2
    waits = wait_for(lambda: [n for n in site.claims() if n.endswith(".again")])
    assert len(waits) == 1 and os.path.basename(waits[0]).startswith("1.2.") and len(site.claims()) == 1
    with open(site.path("claimed", waits[0])) as f:
        request = json.load(f)
    assert request["attempt"] == 2 and request["tries"] == {"own": 1, "infrastructure": 0, "killed": 0}
    # The next worker waits as long; one that leaves lets it go.
    for pid in _workers(worker):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: worker.log().count("connected to the folder") == 2)
    assert stays(lambda: site.claims() == waits and not site.names("requests"), 2.5) is None
    worker.stop()
    assert len(site.names("requests")) == 1 and site.names("claimed") == []
    site.cancel(1)
    host.start()
    end = site.wait_end(1, n=2)
    assert {e["attempt"]: e["kind"] for e in site.ends(1)} == {1: "failed", 2: "canceled"} and "again" not in site.ends(1)[-1]
    assert runs(site) == ["1 1"] and end


TALK = """#!/bin/sh
echo "$ZR_EVALUATION_ID $ZR_ATTEMPT" >>{folder}/runs
echo one; echo 'é "two"' >&2
echo '{{"done": 1, "total": 4}}' >&3
while [ ! -e {folder}/go ]; do sleep 0.05; done
echo '{{"done": 3, "total": 4}}' >&3; echo three
while [ ! -e {folder}/gone ]; do sleep 0.05; done
"""


def live(site, name):
    path = site.path("live", name)
    return open(path).read() if os.path.exists(path) else ""


def test_progress_and_log_of_a_running_one_can_be_followed(make_site):
    site = make_site()
    site.evaluator("talk", TALK.format(folder=site.dir))
    worker = site.host("oberon").start()
    site.submit(1, "talk")

    def said():
        assert live(site, "1.1.log").endswith("\n")
        lines = [json.loads(line) for line in live(site, "1.1.log").splitlines()]
        assert all(e["kind"] == "log" and e["evaluation"] == "1" and e["attempt"] == 1 for e in lines)
        return {s: "".join(e["body"]["text"] for e in lines if e["body"]["stream"] == s) for s in ("out", "err")}
    wait_for(lambda: said() == {"out": "one\n", "err": 'é "two"\n'})
    wait_for(lambda: json.loads(live(site, "1.1.json"))["body"]["done"] == 1 if live(site, "1.1.json") else False)
    go(site)
    wait_for(lambda: said()["out"] == "one\nthree\n" and json.loads(live(site, "1.1.json"))["body"]["done"] == 3)
    # Who goes on with it says it anew, from the beginning; `offset` tells.
    for pid in _workers(worker):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: [json.loads(n)["body"]["offset"] for n in live(site, "1.1.log").splitlines()].count(0) == 4)
    open(os.path.join(site.dir, "gone"), "w").close()
    assert site.wait_end(1)["kind"] == "completed"
    wait_for(lambda: site.names("live") == [] and not os.listdir(site.path("live")), 5)


def test_what_others_put_where_progress_goes_does_no_harm(make_site):
    site = make_site()
    site.evaluator("talk", TALK.format(folder=site.dir))
    host = site.host("oberon")
    os.makedirs(site.path("live"))
    os.mkfifo(site.path("live", "1.1.log"))
    os.symlink(os.path.join(site.dir, "elsewhere"), site.path("live", ".1.1.json.tmp"))
    host.start()
    site.submit(1, "talk")
    wait_for(lambda: live(site, "1.1.json"))
    go(site)
    open(os.path.join(site.dir, "gone"), "w").close()
    assert site.wait_end(1)["kind"] == "completed" and not os.path.exists(os.path.join(site.dir, "elsewhere"))
    wait_for(lambda: not os.listdir(site.path("live")), 5)


def test_a_further_attempt_of_a_lost_host_goes_on_elsewhere(make_site):
    site = make_site(lease="3s")
    put_folder = site.path("claimed", "titania.1")
    os.makedirs(put_folder)
    put(put_folder, "1.2.01890a5d-ac96-774b-bcce-b302099a8057.again", site.request(1, "count", attempt=2))
    site.host("oberon").start()
    assert site.wait_end(1)["attempt"] == 2 and runs(site) == ["1"] and not site.names("dead")


def test_a_keeper_that_is_killed_is_followed_by_one_more_attempt(make_site):
    site = make_site(retry_delay="0s")
    worker = site.host("oberon").start()
    site.submit(1, "hold")
    for n in (1, 2):
        wait_for(lambda: len(runs(site)) == n)
        for pid, line in processes.working_in(site.dir).items():
            if processes.comm(pid) == "zr-box":
                os.kill(pid, signal.SIGKILL)
        site.wait_end(1, n=n)
    ends = sorted(site.ends(1), key=lambda e: e["attempt"])
    assert [(e["attempt"], e["body"]["reason"], e["body"].get("keeper_died"), e.get("again")) for e in ends] == [
        (1, "lost", True, 2), (2, "lost", True, None)]
    assert stays(lambda: len(runs(site)) == 2, 2) is None and worker.alive()


@pytest.mark.needs("root")
def test_events_wait_until_the_folder_takes_them(site):
    worker = site.host("oberon").start()
    site.submit(1, "hold")
    wait_for(lambda: site.events(1, "started"))
    subprocess.run(["chattr", "+i", site.path("events")], check=True)
    try:
        go(site)
        worker.wait_log("events wait on disk")
        # The request is not let go of before its end is told.
        assert len(site.claims()) == 1
    finally:
        subprocess.run(["chattr", "-i", site.path("events")], check=True)
    assert site.wait_end(1)["kind"] == "completed"
    wait_for(lambda: not site.claims(), 10)


def test_a_drained_worker_finishes_and_leaves_the_rest(site):
    worker = site.host("oberon").start("-w", 1, "--prefetch-count", 1)
    site.submit(1, "hold")
    wait_for(lambda: runs(site))
    site.submit(2, "hold")
    worker.signal(signal.SIGTERM)
    worker.wait_log("draining")
    go(site)
    assert worker.wait() == 0
    assert site.wait_end(1)["kind"] == "completed" and site.names("requests") == ["2.json"] and runs(site) == ["1 1"]


def test_a_folder_that_cannot_be_one_is_said_at_once(site):
    with open(site.channel, "w"):
        pass
    worker = site.host("oberon").start(ready=False)
    assert worker.wait() == 2
    assert site.channel in worker.log()


def test_a_channel_that_is_none(site):
    host = site.host("oberon")
    r = subprocess.run([os.path.join(BUILD, "zr"), "worker:run:eval", "--channel", "smoke"], env=host.env, capture_output=True, text=True)
    assert r.returncode == 2 and "amqp or dir:FOLDER" in r.stderr


def zr(host, *args, check=0):
    r = subprocess.run([os.path.join(BUILD, "zr"), *map(str, args)], env=host.env, capture_output=True, text=True, timeout=60)
    assert r.returncode == check, r.stderr
    return r


def test_the_verbs_of_a_requester(site):
    host = site.host("oberon")
    answer = os.path.join(site.dir, "answer")
    with open(answer, "w") as f:
        f.write("seven c")
    # Not a channel yet: nothing is made by accident.
    os.mkdir(site.channel)
    assert "is no channel" in zr(host, "channel:submit", site.channel, "count", answer, check=1).stderr
    assert os.listdir(site.channel) == []
    host.start("-w", 1, "--prefetch-count", 1)
    end = json.loads(zr(host, "channel:submit", site.channel, "count", answer, "--wait").stdout)
    assert end["kind"] == "completed" and end["body"]["scores"] == {"score": 7}
    # The same submission is there once; a request that fails is told by the exit status.
    assert json.loads(zr(host, "channel:submit", site.channel, "nobody", answer, "--wait", check=1).stdout)["kind"] == "failed"
    assert len(site.names("submissions")) == 1 and not site.names("claimed", "oberon.1")
    assert zr(host, "channel:submit", site.channel, "hold", answer, "--evaluation", "mine").stdout == "evaluation mine\n"
    wait_for(lambda: len(runs(site)) == 2)
    zr(host, "channel:cancel", site.channel, "mine")
    assert site.wait_end("mine")["kind"] == "canceled"
    assert "evaluation" in zr(host, "channel:submit", site.channel, "count", answer, "--evaluation", "../x", check=1).stderr
    assert "no such file" in zr(host, "channel:submit", site.channel, "count", answer + "x", check=1).stderr.lower()


def test_a_folder_that_was_removed_is_made_again(site):
    worker = site.host("oberon").start()
    os.rmdir(site.path("claimed", "oberon.1"))
    os.rmdir(site.path("requests"))
    worker.wait_log("a folder of .* was removed or moved; trying again")
    wait_for(lambda: os.path.isdir(site.path("requests")) and os.path.isdir(site.path("claimed", "oberon.1")))
    site.submit(1, "count")
    assert site.wait_end(1)["kind"] == "completed"


def test_a_channel_that_was_moved_away(site):
    site.host("oberon").start()
    site.submit(1, "hold")
    wait_for(lambda: runs(site))
    os.rename(site.channel, site.channel + ".old")
    site.submit(2, "count")
    assert site.wait_end(2)["kind"] == "completed"
    # Its end comes where the channel is now.
    go(site)
    assert site.wait_end(1)["kind"] == "completed"


def test_names_and_files_of_strangers_hold_nobody_up(site):
    host = site.host("oberon")
    names = (b"\xff\xfe.json", b"a\nb.json", b"%s%n.json", b"-rf.json", b"'\".json", b"x" * 250 + b".json")
    os.makedirs(site.path("requests"))
    os.makedirs(site.path("claimed", "oberon.1"))
    for i, name in enumerate(names):
        with open(os.path.join(os.fsencode(site.path("requests")), name), "w") as f:
            json.dump(site.request(f"e{i}", "count"), f)
    mine = os.fsencode(site.path("claimed", "oberon.1"))
    for name in (b".req", b".lost", b".again", b".over", b"x.again", b"\xff.req", b"\xff.again", b"a\nb.lost", b"1.1.x.run"):
        open(os.path.join(mine, name), "w").close()
    os.mkfifo(os.path.join(mine, b"fifo.req"))
    os.mkdir(os.path.join(mine, b"folder.again"))
    os.symlink(b"/etc/passwd", os.path.join(mine, b"link.lost"))
    host.start()
    site.submit("last", "count")
    for evaluation in [f"e{i}" for i in range(len(names))] + ["last"]:
        assert site.wait_end(evaluation)["kind"] == "completed"
    assert len(runs(site)) == len(names) + 1


def test_a_fifo_in_the_place_of_an_event_stops_nobody(site):
    site.host("oberon").start()
    site.submit(1, "hold")
    started = wait_for(lambda: site.events(1, "started"))[0]
    os.mkfifo(site.path("events", f".{started['attempt_id']}.{10**12:013d}.json.tmp"))
    go(site)
    assert site.wait_end(1)["seq"] == 10**12
    wait_for(lambda: not site.claims(), 5)


def test_a_hundred_thousand_requests(make_site, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    site = make_site()
    os.makedirs(site.path("requests"))
    request = json.dumps(site.request("N", "count"))
    for i in range(100000):
        with open(site.path("requests", f"{i * 7919 % 100000:06d}.json"), "w") as f:
            f.write(request.replace('"N"', f'"{i * 7919 % 100000}"'))
    worker = site.host("oberon").start("-w", 1, "--prefetch-count", 2)
    wait_for(lambda: len(site.ends()) > 30, 60)
    assert {str(i) for i in range(20)} <= {e["evaluation"] for e in site.ends()}
    # One with an early name that comes now has its place.
    site.submit("early", "count", name="000000-.json")
    assert site.wait_end("early")["kind"] == "completed" and "silent" not in worker.log()


def test_doctor_looks_at_the_folder(make_site):
    site = make_site()
    host = site.host("oberon", channel="dir:" + site.channel)

    def lines():
        r = subprocess.run([os.path.join(BUILD, "zr"), "doctor", "--json"], env=host.env, capture_output=True, text=True, timeout=60)
        said = json.loads(r.stdout)
        assert not {"broker", "database"} & {x["check"] for x in said}
        return [(x["status"], x["text"]) for x in said if x["check"] == "channel"]
    assert lines() == [("warn", f"{site.channel}: No such file or directory")]
    worker = host.start()
    assert lines() == [("ok", f"{site.channel}, 0 requests wait")]
    worker.stop()
    site.submit(1, "count")
    put(site.path("dead"), "x.reason", {})
    assert lines() == [("warn", f"1 requests were refused and lie in {site.channel}/dead"), ("ok", f"{site.channel}, 1 requests wait")]
    os.rmdir(site.path("control"))
    assert lines() == [("warn", f"{site.channel}/control: No such file or directory")]


@pytest.mark.needs("root")
def test_after_a_crash_of_the_host_what_was_told_stays_told(make_site):
    """What the spool drops it still has when the power fails, and of boxes there is what had reached the disk."""
    site = make_site(retry_delay="0s")
    host = site.host("oberon")
    worker = host.start("-w", 1, "--prefetch-count", 2)
    for i in range(3):
        site.submit(i, "count")
        site.wait_end(i)
    site.submit("long", "hold")
    wait_for(lambda: site.events("long", "started"))
    wait_for(lambda: len(site.claims()) == 1)
    told = {n: open(site.path("events", n)).read() for n in site.names("events")}
    worker.kill_group()
    processes.end_all(site.dir)
    boxes = os.path.join(host.state, "spool/boxes")
    taken = [n for n in os.listdir(boxes) if n[0] != "."]
    # Two that nobody had noted: of one there is nothing yet, the other one's folder was that of the one that is running.
    for name, spec in (("01890a5d-ac96-774b-bcce-b302099a8057", ""),
                       ("01890a5d-ac96-774b-bcce-b302099a8058", read(boxes, taken[0], "spec.json"))):
        os.mkdir(os.path.join(boxes, name))
        with open(os.path.join(boxes, name, "spec.json"), "w") as f:
            f.write(spec)
    os.truncate(os.path.join(boxes, taken[0], "spec.json"), 0)
    boot = os.path.join(site.dir, "boot")
    with open(boot, "w") as f:
        f.write("00000000-0000-4000-8000-00000000000b\n")
    argv = ["/usr/bin/unshare", "-m", "sh", "-c", f"mount --bind {boot} /proc/sys/kernel/random/boot_id && exec \"$@\"", "sh", *worker.argv]
    site.daemons.append(Daemon("second-boot", argv, host.env, os.path.join(host.dir, "log"), host.dir))
    site.daemons[-1].wait_ready()
    lost = site.wait_end("long")
    assert lost["body"]["reason"] == "lost" and lost["again"] == 2
    wait_for(lambda: runs(site)[-1] == "long 2")
    go(site)
    assert site.wait_end("long", n=2) and sorted((e["attempt"], e["kind"]) for e in site.ends("long")) == [(1, "failed"), (2, "completed")]
    wait_for(lambda: not site.claims() and not os.listdir(boxes), 20)
    assert {n: open(site.path("events", n)).read() for n in told} == told
    assert len(site.ends()) == 5


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()
