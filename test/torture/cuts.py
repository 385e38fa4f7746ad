# SPDX-License-Identifier: MIT
"""Scenarios of the network: a host is cut off, in each way, for less than a lease and for more, while results cross, or for good."""
import signal
import time

import tree

KINDS = {"quick": 3, "short": 3, "medium": 3, "long": 1}


def until(condition, seconds):
    """Its value as soon as it is true, else None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    return None


def jobs_of(world, host):
    return [p for p in world.processes("job") if host.has(p)]


def busy(world, stream, host=None):
    """Jobs that take long have begun, on this host among others."""
    def begun():
        ran = {r[0] for r in world.marks_read()}
        return all(i in ran for i in idents)
    idents = [stream.submit("long") for _ in range(4)]
    return until(lambda: begun() and (not host or jobs_of(world, host)), 20)


def cut(mode, lease, seconds, costs):
    """One host has jobs when it is cut off. costs: whether a lease may run out."""
    def play(t, name, seed):
        host = t.world.net.hosts["h1"]

        def act(f, stream):
            if not busy(t.world, stream, host):
                return [f"{host.name} never had a job"]
            f.trouble.count[f"link {mode}"] = 1
            f.cut(host, mode, seconds, costs)
            time.sleep(1)
            return []
        t.scenario(name, seed, act, lease=lease, pause=0.3, kinds=KINDS)
    return play


def while_results_cross(t, name, seed):
    """A slow line that is cut again and again in the middle of big results."""
    host = t.world.net.hosts["h1"]

    def act(f, _stream):
        host.rate("20mbit")
        try:
            for i in range(5):
                if not until(lambda: t.world.processes("fetch"), 20):
                    return ["nothing was fetched"]
                time.sleep(0.3 + 0.2 * i)
                f.trouble.count["link"] = i + 1
                f.cut(host, host.MODES[i % len(host.MODES)], 1 + i % 2)
        finally:
            host.rate(None)
        return []
    t.scenario(name, seed, act, pause=0.5, kinds={"noise": 3, "quick": 1})


def host_lost(t, name, seed):
    """Everything of a host is gone at once and stays so. Its work has begun elsewhere a lease and five seconds later. The broker must
    have missed its heartbeats by then, or it still hands out requests to the host: that takes three of them."""
    host, w = t.world.net.hosts["h1"], t.world

    def again(lost):
        runs = {}
        for run in w.marks_read():
            runs.setdefault(run[0], []).append(run)
        return all(any(r[2] not in lost for r in runs.get(i, [])) for i in lost.values())

    def act(f, stream):
        # No more than the other host has room for.
        if not any(stream.submit("long") and until(lambda: jobs_of(w, host), 3) for _ in range(4)):
            return [f"{host.name} never had a job"]
        w.off.add(host.name)
        host.cut("silent")
        begin = time.time()
        # None of it can still do anything when the first is killed.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for p in tree.ours():
                if host.has(p) and (p.exe.startswith("zr-") or w.role(p) == "job"):
                    p.signal(number)
            if number == signal.SIGSTOP:
                jobs = {j.env["ZR_ATTEMPT_ID"]: int(j.env["ZR_EVALUATION_ID"]) for j in jobs_of(w, host) if "ZR_ATTEMPT_ID" in j.env}
        f.trouble.count["host lost"] = 1
        f.trouble.keepers |= set(jobs)
        f.trouble.silent(begin, begin + 3 * w.lease, host.name)
        if not until(lambda: again(jobs), w.lease + 30):
            return [f"what {host.name} ran was not begun elsewhere: {jobs}"]
        took = time.time() - begin
        t.say(f"     {len(jobs)} jobs of a lost host began elsewhere after {took:.1f} s, lease {w.lease} s")
        return [f"it took {took:.1f} s, not a lease and 5 s"] if took > w.lease + 5 else []
    t.scenario(name, seed, act, lease=10, pause=3600)


SCENARIOS = {
    "net/5s": cut("down", 20, 5, False),
    "net/mute-5s": cut("mute", 20, 5, False),
    "net/lease-1": cut("down", 6, 5, True),
    "net/2-leases": cut("down", 4, 8, True),
    "net/silent-2-leases": cut("silent", 4, 8, True),
    "net/deaf-2-leases": cut("deaf", 4, 8, True),
    "net/mute-2-leases": cut("mute", 4, 8, True),
    "net/results": while_results_cross,
    "net/host-lost": host_lost,
}
