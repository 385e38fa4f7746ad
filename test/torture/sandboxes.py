# SPDX-License-Identifier: MIT
"""Scenarios in which all jobs run in sandboxes: whoever has a part in one is killed, or the host is cut off."""
import time

from cuts import KINDS, busy, jobs_of, until


def kills(t, name, seed):
    """Twice a second: the keeper, process 1 of the sandbox, a process of the job, the worker, its supervisor."""
    def act(f, _stream):
        for _ in range(60):
            time.sleep(0.5)
            f.one(["keeper", "init", "init", "job", "job", "worker", "supervisor"])
    t.scenario(name, seed, act, pause=0.15, kinds=KINDS, walled=1)


def cut_off(t, name, seed):
    """For two leases: the keepers end their sandboxes, and nothing of them is there when others begin the jobs."""
    host, w = t.world.net.hosts["h1"], t.world

    def act(f, stream):
        if not busy(w, stream, host):
            return [f"{host.name} never had a job"]
        held = {str(p) for p in jobs_of(w, host)}
        begin = time.time()
        host.cut("down")
        gone = until(lambda: not held & {str(p) for p in jobs_of(w, host)}, w.lease)
        time.sleep(max(0, begin + 2 * w.lease - time.time()))
        host.join()
        f.trouble.silent(begin, begin + 3, host.name)
        f.trouble.count["link"] = 1
        time.sleep(1)
        return [] if gone else [f"a lease after the cut jobs of before are still there: {held}"]
    t.scenario(name, seed, act, pause=0.3, kinds=KINDS, walled=1)


SCENARIOS = {"sandbox/kills": kills, "sandbox/2-leases": cut_off}
