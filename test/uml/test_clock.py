# SPDX-License-Identifier: MIT
"""A wall clock that jumps by years while evaluations run. For scripts/uml alone: it sets the machine's clock."""
import json
import os
import shutil
import time

import pytest

from lib.folder import Site, put, stamp
from lib.services import BUILD
from lib.wait import wait_for

YEAR = 365.25 * 86400
# A worker is heard of every ten seconds then; a lease that is not renewed is over after fifty.
LEASE = "60s"
NET = 150  # no time that anything should take
SANDBOX = "isolation = sandbox\nmemory = 64M\npids = 16\ndisk = 1M\nwall_limit = 600s\n"
# Until somebody lets it go. Its own folder is what it sees in a sandbox, too.
HOLD = """#!/bin/sh
[ ! -w {folder} ] || echo "$ZR_EVALUATION_ID $ZR_ATTEMPT" >>{folder}/runs
echo begun
until [ -e "$ZR_EVALUATOR/go-$ZR_EVALUATION_ID" ]; do sleep 0.1; done
[ "$ZR_EVALUATION_ID" != flaky ] || [ "$ZR_ATTEMPT" -ge 2 ] || exit 3
echo '{{"score": 7}}' >"$ZR_OUTPUT/scores.json"
"""

pytestmark = [pytest.mark.skipif(not os.path.exists("/run/zr-uml"), reason="only in scripts/uml"), pytest.mark.timeout(900)]


class Clock:
    def __init__(self):
        self.right = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def set(self, years):
        time.clock_settime(time.CLOCK_REALTIME, self.right + time.clock_gettime(time.CLOCK_BOOTTIME) + years * YEAR)


@pytest.fixture
def clock():
    c = Clock()
    yield c
    c.set(0)


@pytest.fixture
def site():
    s = Site(retry_delay="1s", infrastructure_retries=0)
    script = HOLD.format(folder=s.dir)
    s.evaluator("plain", script, "wall_limit = 600s\nretries = 1\n")
    s.evaluator("walled", script, SANDBOX)
    yield s
    for daemon in s.daemons:
        print(daemon.name, daemon.log())
    s.close()


def start(host, *args):
    return host.start(*args, ready=False).wait_ready(NET)


def go(site, evaluation, evaluator="plain"):
    open(os.path.join(site.bin, evaluator, f"go-{evaluation}"), "w").close()


def runs(site):
    path = os.path.join(site.dir, "runs")
    return open(path).read().splitlines() if os.path.exists(path) else []


class Job:
    """One that runs until go(), and how long it can have run, by a clock that nobody sets."""

    def __init__(self, site, name, evaluator):
        self.site, self.name, self.evaluator = site, name, evaluator
        self.asked = time.monotonic()
        site.submit(name, evaluator)
        wait_for(lambda: site.events(name, "started"), NET, f"{name} to run")
        self.seen = time.monotonic()

    def go(self):
        told = time.monotonic()
        go(self.site, self.name, self.evaluator)
        end = self.site.wait_end(self.name, NET)
        assert end["kind"] == "completed" and end["attempt"] == 1 and len(self.site.ends(self.name)) == 1, end
        assert told - self.seen <= end["body"]["usage"]["wall_usec"] / 1e6 <= time.monotonic() - self.asked, end


def beats(site, hosts, n):
    """Each of them was heard of so many times more."""
    for host in hosts:
        for _ in range(n):
            path = site.path("workers", f"{host.name}.1.json")
            before = os.stat(path).st_ino
            wait_for(lambda: os.stat(path).st_ino != before, NET, "the next beat")


@pytest.mark.parametrize("jumps, n", [((10, -10), 6), ((-10, 10), 1)], ids=["ahead", "back"])
def test_jumps_while_jobs_run_and_wait(site, clock, jumps, n):
    hosts = [start(site.host(name, lease=LEASE), "-w", 1, "--prefetch-count", n) for name, n in (("oberon", 2), ("puck", 1))]
    plain, walled = Job(site, "plain", "plain"), Job(site, "walled", "walled")
    site.submit("flaky", "plain")
    wait_for(lambda: site.events("flaky", "started"), NET)
    for i, name in enumerate(("first", "second")):
        site.submit(name, "plain", name=f"{stamp_name(i)}.json")
    clock.set(jumps[0])
    # Its end makes room for the first, and its next attempt waits for a second, then behind the other one.
    go(site, "flaky")
    assert site.wait_end("flaky", NET)["again"] == 2
    wait_for(lambda: site.events("first", "started"), NET)
    wait_for(lambda: len(site.names("requests")) == 2, NET, "the next attempt to be asked for")
    ended = site.ends()
    clock.set(jumps[1])
    beats(site, hosts[:1], n)
    assert site.ends() == ended and len(runs(site)) == 3
    clock.set(0)
    site.submit("late", "plain", name=f"{stamp_name()}.json")
    for name in ("second", "late", "first"):
        go(site, name)
    for name in ("first", "second", "late"):
        assert site.wait_end(name, NET)["kind"] == "completed"
    assert site.wait_end("flaky", NET, n=2)
    assert runs(site) == ["plain 1", "flaky 1", "first 1", "second 1", "flaky 2", "late 1"]
    plain.go()
    walled.go()
    assert sorted((e["evaluation"], e["attempt"], e["kind"]) for e in site.ends()) == [
        ("first", 1, "completed"), ("flaky", 1, "failed"), ("flaky", 2, "completed"), ("late", 1, "completed"), ("plain", 1, "completed"),
        ("second", 1, "completed"), ("walled", 1, "completed")]
    wait_for(lambda: not site.claims() and not site.names("dead") and not site.names("requests"), NET)
    for host in hosts:
        host.stop()
        assert not [w for w in ("lost", "silent", "not heard of", "lease") if w in host.log()], host.log()


def stamp_name(n=0):
    """As `zr channel:submit` names a request: the time of its making comes first."""
    ms = int(time.time() * 1000)
    return f"{ms >> 16:08x}-{ms & 0xffff:04x}-7{n:03x}-8000-000000000000"


def test_a_limit_of_time_is_of_time_that_passes(site, clock):
    for name, conf in (("none", ""), ("sandbox", SANDBOX.replace("wall_limit = 600s\n", ""))):
        site.evaluator(name, HOLD.format(folder=site.dir), conf + "wall_limit = 6s\n")
        site.submit(name, name)
    start(site.host("oberon"), "-w", 1, "--prefetch-count", 2)
    for name in ("none", "sandbox"):
        wait_for(lambda: site.events(name, "started"), NET)
    clock.set(10)
    clock.set(-10)
    for name in ("none", "sandbox"):
        end = site.wait_end(name, NET)
        assert end["kind"] == "failed" and end["body"]["reason"] == "wall-limit", end
        assert 6e6 <= end["body"]["usage"]["wall_usec"] < 60e6


def test_a_claim_of_before_the_jump_stands(site, clock):
    """A worker that is killed when it has a request but not yet the submission: the next one goes on, in another year."""
    host = site.host("oberon")
    fetch, real = os.path.join(BUILD, "zr-fetch"), os.path.join(site.dir, "zr-fetch")
    slow = os.path.join(site.dir, "slow")
    shutil.copy(fetch, real)
    with open(slow, "w") as f:
        f.write(f"#!/bin/sh\ntouch {site.dir}/asked\nuntil [ -e {site.dir}/bring ]; do sleep 0.1; done\nexec {real} \"$@\"\n")
    os.chmod(slow, 0o755)
    os.system(f"mount --bind {slow} {fetch}")
    try:
        worker = start(host)
        site.submit("one", "plain")
        wait_for(lambda: os.path.exists(site.dir + "/asked"), NET)
        wait_for(lambda: [c for c in site.claims() if c.endswith(".run")], NET, "the request to be settled")
        clock.set(10)
        # Twice: what one forgets the other does not know.
        worker.kill_group()
        start(host).kill_group()
        start(host)
        open(site.dir + "/bring", "w").close()
        go(site, "one")
        end = site.wait_end("one", NET)
        assert end["kind"] == "completed" and end["attempt"] == 1 and runs(site) == ["one 1"]
    finally:
        os.system(f"umount {fetch}")


def test_a_cancel_is_read_in_another_year(site, clock):
    """It would have been removed for its age."""
    host = site.host("oberon")
    site.submit(1, "plain")
    os.makedirs(site.path("control"))
    put(site.path("control"), "c.json", {"zr": "1.0", "type": "control", "kind": "cancel", "evaluation": "1", "by": "ann", "at": stamp()})
    clock.set(10)
    start(host)
    assert site.wait_end(1, NET)["kind"] == "canceled" and not runs(site)


def test_numbers_of_events_rise_over_jumps_and_workers(site, clock):
    def said():
        path = site.path("live", "1.1.log")
        with open(path) as f:
            return [e["seq"] for e in map(json.loads, f) if e["kind"] == "log"]
    host = site.host("oberon")
    clock.set(10)
    site.submit(1, "plain")
    worker = start(host)
    wait_for(lambda: os.path.exists(site.path("live", "1.1.log")) and said(), NET)
    clock.set(-10)
    worker.kill_group()
    before = said()
    start(host)
    wait_for(lambda: len(said()) > len(before), NET, "the log to be said again")
    assert sorted(set(said())) == said(), said()
    go(site, 1)
    assert site.wait_end(1, NET)["kind"] == "completed"
