# SPDX-License-Identifier: MIT
"""Long runs: SOAK evaluations with a kill each second, SOAK reconnections, SOAK restarts of the broker, SOAK messages."""
import contextlib
import json
import os
import time
import uuid

import pika

from cuts import until
from databases import PER, publish as events
from lib import store

KILLS = ["worker", "supervisor", "keeper", "job", "fetch", "update_worker", "update", "host_sshd_killed", "connections_closed", "backends"]
KINDS = {"quick": 20, "short": 2, "medium": 1, "fails": 2}


def evaluations(t, name, seed):
    def act(f, stream):
        said = begin = time.monotonic()
        while len(stream.said) < t.options.soak:
            time.sleep(1)
            # The machine's own want of processes is no fault of ours.
            with contextlib.suppress(BlockingIOError):
                f.one(KILLS)
            if time.monotonic() - said > 60:
                said = time.monotonic()
                t.say(f"     {len(stream.said)} of {t.options.soak} evaluations after {said - begin:.0f} s")
        time.sleep(1)
    t.scenario(name, seed, act, pause=0.02, kinds=KINDS)


# --- sizes ---

def size(process):
    """(resident KiB, descriptors, threads) of a process."""
    with open(f"/proc/{process.pid}/status") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    return int(fields["VmRSS"].split()[0]), len(os.listdir(f"/proc/{process.pid}/fd")), int(fields["Threads"])


def growth(samples):
    """Of the second half, the first one being warm: per cent of the least there."""
    half = samples[len(samples) // 2:]
    return 100 * (half[-1] - min(half)) / max(1, min(half))


class Sizes:
    """Of workers and update workers, and the control groups of attempts, looked at forty times in `total` of something."""

    WORDS = ("KiB", "descriptors", "threads")

    def __init__(self, t, total, what):
        self.t, self.w, self.step, self.total, self.what = t, t.world, total / 40, total, what
        self.next, self.processes, self.groups, self.said = 0, {}, [], time.monotonic()

    def _groups(self):
        """Of attempts that there ever were: one or two, by the kind of groups, for each job that runs."""
        ids = {str(r[0]) for r in self.w.query("select attempt_id from attempt")}
        return sum(name[3:39] in ids for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith("zr-"))

    def look(self, done):
        if done < self.next:
            return
        self.next = done + self.step
        self.groups.append(self._groups())
        for p in (p for role in ("worker", "update-worker") for p in self.w.processes(role)):
            with contextlib.suppress(OSError):
                self.processes.setdefault((p.pid, p.exe), []).append(size(p))
        if time.monotonic() - self.said > 60:
            self.said = time.monotonic()
            self.t.say(f"     {done} of {self.total} {self.what}")

    def wrong(self):
        """What is not flat."""
        found = []
        for (pid, exe), list_ in self.processes.items():
            for i, what in enumerate(self.WORDS):
                values = [s[i] for s in list_]
                self.t.say(f"     {exe} {pid}: {what} {values[0]}, in the middle {values[len(values) // 2]}, at the end {values[-1]}")
                if len(values) > 10 and growth(values) > (15 if what == "KiB" else 40):
                    found.append(f"{exe} {pid} grows: {what} {values}")
        self.t.say(f"     control groups {self.groups[0]}, at most {max(self.groups)}, at the end {self.groups[-1]}; {len(self.groups)} looks")
        return found + ([f"there were {max(self.groups)} control groups"] if max(self.groups) > 16 else [])


# --- reconnections ---

def reconnections(t, name, seed):
    """All connections are closed as soon as they are back. Workers and update workers are as large at the end as in the middle."""
    w = t.world

    def act(f, _stream):
        sizes, closed, begin = Sizes(t, t.options.soak, "connections closed"), 0, time.time()
        while closed < t.options.soak:
            text = w.services.erl('C = rabbit_networking:connections(), [catch rabbit_networking:close_connection(P, "torture") || P <- C], length(C).')
            closed += int(text)
            time.sleep(0.25)
            sizes.look(closed)
        f.broker_was_away(begin, time.time() + 2, True)
        f.trouble.senders += [begin + i / 10 for i in range(int(10 * (time.time() - begin)))]
        f.trouble.workers += [begin + i / 10 for i in range(int(10 * (time.time() - begin)))]
        f.trouble.count["connections closed"] = closed
        return sizes.wrong()
    t.scenario(name, seed, act, lease=60, pause=0.3, kinds={"quick": 1})


def restarts(t, name, seed):
    """Of the broker, cleanly or not, while jobs run and wait. None of these is begun again or comes to the dead queue."""
    w = t.world

    def act(f, _stream):
        said = time.monotonic()
        for i in range(t.options.soak):
            begin = time.time()
            w.services.dev(("stop", "kill")[i % 2], "rabbitmq")
            w.services.dev("start", "rabbitmq")
            f.broker_was_away(begin, time.time() + 2, False)
            f.trouble.count["broker restarted"] = i + 1
            if time.monotonic() - said > 60:
                said = time.monotonic()
                t.say(f"     {i + 1} of {t.options.soak} restarts")
            # Long enough for some of it to be done.
            ran = len(w.marks_read())
            until(lambda: len(w.marks_read()) > ran + 2, 20)
        return []
    t.scenario(name, seed, act, lease=60, pause=0.4, kinds={"quick": 2, "long": 1})


# --- messages ---

BATCH = 2500


def messages(t, name, seed):
    """SOAK messages: half of them are events of evaluations that ran nowhere, for zr-update, half of them control messages about
    attempts that never were, for the worker; evaluations run meanwhile."""
    w, half = t.world, t.options.soak // 2

    def publish(channel):
        challenge = store.challenge(w.site, f"soak-{time.time():.0f}")
        idents = store.evaluations(w.site, BATCH // PER, submission_id=store.submission(w.site, "soak", challenge), challenge_id=challenge)
        events(channel, idents)
        for _ in range(BATCH):
            m = {"zr": "1.0", "type": "control", "kind": "release", "evaluation": "1", "attempt_id": str(uuid.uuid4()), "at": store.at(0)}
            channel.basic_publish("zr", "control.release", json.dumps(m), pika.BasicProperties(message_id=str(uuid.uuid4()), delivery_mode=2))
        return idents

    def act(f, stream):
        sizes, sent, begin, fake = Sizes(t, t.options.soak, "messages"), 0, time.monotonic(), []
        channel = w.site.amqp(heartbeat=0).channel()
        worker = until(lambda: w.processes("worker"), 20)[0]
        while sent < 2 * half:
            fake += publish(channel)
            sent += 2 * BATCH
            f.trouble.count["messages"] = sent
            # No more than a few batches wait.
            if not until(lambda: channel.queue_declare("zr.update", passive=True).method.message_count < BATCH, 60):
                return ["the events are not taken"]
            sizes.look(sent)
        # The worker reads this cancel when it has read all before it.
        last = stream.submit("aged")
        if not until(lambda: w.query("select state from evaluation where id = %s", last) == [("running",)], 30):
            return ["the last evaluation does not begin"]
        stream.cancel(last)
        if not until(lambda: w.query("select count(*) from evaluation where step < 4 and id = any(%s)", [*fake, last]) == [(0,)], 120):
            return ["not all messages are read"]
        took = time.monotonic() - begin
        t.say(f"     {sent} messages in {took:.0f} s, {sent / took:.0f} a second, and {len(stream.said)} evaluations")
        w.query("delete from event where evaluation = any(%s)", fake)
        w.query("delete from attempt where evaluation = any(%s)", fake)
        w.query("delete from evaluation where id = any(%s)", fake)
        return sizes.wrong() + ([] if worker.pid in [p.pid for p in w.processes("worker")] else ["the worker was begun again"])
    t.scenario(name, seed, act, lease=60, pause=0.5, kinds={"quick": 1}, only=("h1",), workers=1)


SCENARIOS = {"soak/evaluations": evaluations, "soak/reconnections": reconnections, "soak/restarts": restarts,
             "soak/messages": messages}
