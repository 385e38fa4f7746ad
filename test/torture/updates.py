# SPDX-License-Identifier: MIT
"""Scenarios of several hosts with zr-update, which share a queue, a database and the folders of what is published."""
import time

from cuts import KINDS, busy
from world import API

TERM = 15  # seconds for which a leader leads without being heard of


def several(act):
    """Nothing that happens to one of them costs a run."""
    def play(t, name, seed):
        def begun(f, stream):
            if not busy(t.world, stream):
                return ["four jobs did not begin"]
            return act(t, f)
        t.scenario(name, seed, begun, pause=0.12, kinds=KINDS, api=API)
    return play


def counted(f, word):
    f.trouble.count[word] = f.trouble.count.get(word, 0) + 1


def kills(t, f):
    """Twice a second, of workers and supervisors, fetchers among them."""
    for _ in range(40):
        time.sleep(0.5)
        f.one(["update_worker", "update_worker", "update", "fetch", "backends"])


def cut_off(t, f):
    """One after the other, in each way, for up to two leases."""
    for i in range(8):
        host = t.world.net.api[API[i % 2]]
        f.trouble.senders += [time.time()]
        host.cut_for(host.MODES[i // 2], (1, 2 * t.world.lease)[i % 2])
        counted(f, "link")
        f.trouble.senders += [time.time()]
        time.sleep(0.5)


def frozen(t, f):
    """Each stands still for two leases with what was delivered to it, and one for longer than a leader leads."""
    held = []

    def look():
        rows = t.world.services.rabbitmqctl("list_queues", "-q", "-p", "sb.torture", "name", "messages_unacknowledged").splitlines()
        held.append(next(int(r.split()[1]) for r in rows if r.startswith("zr.update\t")))
    for host in ("update", *API):
        f.freeze_host(host, 2 * t.world.lease, look)
        counted(f, "frozen")
        time.sleep(1)
    t.say(f"     {held} deliveries were held by who stood still")
    if not all(held):
        return ["who stood still held no deliveries"]
    leader = t.world.query("select holder from leader")[0][0].split("/")[0]
    f.freeze_host(leader if leader in API else "update", TERM + 5)
    counted(f, "leader frozen")
    now = t.world.query("select holder from leader")[0][0].split("/")[0]
    return [] if now != leader else [f"{leader} leads, though it stood still for {TERM + 5} s"]


SCENARIOS = {"update/kills": several(kills), "update/cut": several(cut_off), "update/frozen": several(frozen)}
