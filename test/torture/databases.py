# SPDX-License-Identifier: MIT
"""Scenarios of the database: gone for long, sessions ended, the answer to a commit lost, and how fast what has waited is caught up."""
import json
import random
import time
import uuid

import pika

from lib import store
from proxy import Proxy

EVENTS, PER = 200000, 5


def gone(t, name, seed):
    """For longer than an update worker keeps deliveries while it waits, which is 30 s."""
    def act(f, _stream):
        time.sleep(3)
        begin = time.time()
        t.world.services.dev("stop", "postgres")
        time.sleep(40)
        t.world.services.dev("start", "postgres")
        f.trouble.senders += [begin, time.time(), time.time() + 5]
        # Nobody says of whom anything was heard.
        f.trouble.silent(begin, time.time() + 5)
        f.trouble.count["database gone"] = 1
        time.sleep(2)
    t.scenario(name, seed, act, pause=0.5)


def terminated(t, name, seed):
    def act(f, _stream):
        end = time.monotonic() + 15
        while time.monotonic() < end:
            f.backends()
            f.trouble.count["sessions ended"] = f.trouble.count.get("sessions ended", 0) + 1
            time.sleep(f.random.uniform(0.05, 0.6))
    t.scenario(name, seed, act, pause=0.15)


def commits(t, name, seed):
    """The server has committed and says so, and the client hears nothing of it but the end of the connection."""
    w = t.world

    def judge(c, data):
        # ReadyForQuery, not in a transaction: the statements before it are committed. The first two belong to the login.
        if not data.endswith(b"Z\0\0\0\5I"):
            return None
        c.answers += 1
        return 0 if c.answers > 3 and chance.random() < 0.25 else None

    port = w.services.status()["postgres"][1]
    with Proxy(("127.0.0.1", port), judge) as proxy:
        def act(f, _stream):
            nonlocal chance
            chance = f.random
            begin = time.time()
            while proxy.cuts < t.options.cuts and time.time() < begin + 60:
                time.sleep(0.1)
            f.trouble.count["commits unanswered"] = proxy.cuts
            f.trouble.senders += [begin + i / 10 for i in range(int(10 * (time.time() - begin)))]
            # From here on all is answered.
            proxy.judge = lambda *_: None
        chance = random.Random(seed)
        t.scenario(name, seed, act, pause=0.1, kinds={"quick": 6, "short": 3, "fails": 1},
                   update_env={"DATABASE_URL": w.site.env["DATABASE_URL"].replace(f":{port}/", f":{proxy.port}/")})


# --- catching up ---

def publish(channel, idents):
    """Five events of each evaluation, a few evaluations at a time, as several hosts would send them."""
    ident = "018f0000-0000-7000-8000-000000000000"
    for at in range(0, len(idents), 8):
        for seq in range(PER):
            for i in idents[at:at + 8]:
                e = store.started(i, seq, ident=ident) if seq == 0 else store.progress(i, seq, seq, ident=ident) if seq < PER - 1 else \
                    store.end(i, seq, ident=ident, scores={"score": 1})
                channel.basic_publish("zr", store.key(e), json.dumps(e), pika.BasicProperties(message_id=str(uuid.uuid4()), delivery_mode=2))


def resident(w):
    """MiB of each update worker."""
    sizes = []
    for p in w.processes("update-worker"):
        with open(f"/proc/{p.pid}/status") as f:
            sizes += [int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS")]
    return max(sizes, default=0)


def catch_up(t, name, seed):
    """All that was said while zr-update had no database. It holds no more of it than its window, before and after."""
    w, events = t.world, t.options.events

    def act(_f, _stream):
        w.settings(w.lease)
        idents = store.evaluations(w.site, events // PER, submission_id=w.submissions["quick"])
        time.sleep(1)
        small = resident(w)
        w.services.dev("stop", "postgres")
        publish(w.site.amqp(heartbeat=0).channel(), idents)
        waiting = resident(w)
        w.services.dev("start", "postgres")
        begin, rows, high = time.monotonic(), 0, waiting
        while rows < events and time.monotonic() < begin + 300:
            time.sleep(0.2)
            rows = w.query("select count(*) from event")[0][0]
            high = max(high, resident(w))
        took = time.monotonic() - begin
        first, last = w.query("select min(recorded_at), max(recorded_at) from event")[0]
        rate = rows / max(0.001, (last - first).total_seconds())
        open_ = w.query("select count(*) from evaluation where step < 4")[0][0]
        t.say(f"     {rows} events, {rate:.0f} events/s, the last {took:.1f} s after the database's return; an update worker has "
              f"{small:.1f} MiB at first, {waiting:.1f} while it waits, at most {high:.1f}")
        # They ran nowhere: the check shall not look for them.
        w.query("truncate evaluation, attempt, event, outbox, parked_event restart identity cascade")
        w.query("insert into leaderboard_dirty (challenge) select id from challenge")
        return ([f"{rows} of {events} events were applied, {open_} evaluations are open"] if rows < events or open_ else []) + \
            ([f"memory is not flat: {small:.1f} MiB at first, {high:.1f} then"] if high > small + 16 else [])
    t.scenario(name, seed, act, pause=3600)


SCENARIOS = {"db/gone": gone, "db/terminated": terminated, "db/commits": commits, "db/catch-up": catch_up}
