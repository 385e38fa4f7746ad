# SPDX-License-Identifier: MIT
"""A stream of evaluations, and somebody who watches how they change."""
import random
import subprocess
import threading
import time

import psycopg2

from world import KINDS

WEIGHTS = {"quick": 6, "short": 5, "medium": 3, "long": 1, "big": 1, "fails": 2, "noise": 0, "aged": 0, "pour": 0}


class Load:
    """Submits with the programs that a person uses. What these said is a promise: `said` are the confirmed numbers, `canceled`
    those whose cancel was confirmed."""

    def __init__(self, world, seed, pause=0.25, kinds=None, cancels=0.06, walled=0.35):
        """walled: the share of those that run in a sandbox."""
        self.world, self.random, self.pause, self.cancels = world, random.Random(f"{seed}/load"), pause, cancels
        self.kinds, self.walled = kinds or WEIGHTS, walled
        self.said, self.canceled, self.refused = {}, set(), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self._stop.set()
        self._thread.join()

    def submit(self, kind):
        submissions = self.world.walled if self.random.random() < self.walled else self.world.submissions
        try:
            r = self.world.site.zr("submissions:eval", submissions[kind], check=False, timeout=30)
        except subprocess.TimeoutExpired:
            self.refused += 1
            return None
        if r.returncode:
            self.refused += 1
            return None
        ident = int(r.stdout.split()[-1])
        self.said[ident] = kind
        return ident

    def cancel(self, ident):
        try:
            if self.world.site.zr("evaluations:cancel", ident, check=False, timeout=30).returncode == 0:
                self.canceled.add(ident)
        except subprocess.TimeoutExpired:
            pass

    def _run(self):
        kinds = list(self.kinds)
        while not self._stop.wait(self.pause * self.random.uniform(0.2, 1.8)):
            self.submit(self.random.choices(kinds, [self.kinds[k] for k in kinds])[0])
            if self.said and self.random.random() < self.cancels:
                self.cancel(self.random.choice(list(self.said)[-6:]))


# What runs on workers whose lease is over: nobody else has it.
OVER = """select v.id, v.attempt_id from evaluation v
	join attempt a on (a.evaluation, a.attempt, a.attempt_id) = (v.id, v.attempt, v.attempt_id)
	join worker_lease w on w.worker = a.worker
	where v.state = 'running' and w.lost and not exists (select from worker_lease o, jobs_of(o.body) j
		where not o.lost and (j.evaluation, j.attempt, j.attempt_id) = (v.id, v.attempt, v.attempt_id))"""
# The term of a leader that has gone, one look of the next, and what a busy machine takes.
JUDGED = 30


class Watch:
    """Looks at all evaluations a few times a second: what has ended stays so, nothing goes back, and nothing runs without a lease."""

    def __init__(self, world):
        self.world, self.wrong, self.last, self.over = world, [], {}, {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def look(self):
        try:
            rows = self.world.query("select id, step, state, reason, attempt, version from evaluation")
            over = set(self.world.query(OVER))
        except psycopg2.Error:
            return
        self.over = {k: self.over.get(k, time.monotonic()) for k in over}
        for (ident, _), since in self.over.items():
            if time.monotonic() - since > JUDGED:
                self.wrong.append(f"evaluation {ident} is running, and nobody has a lease of it for {JUDGED} s")
        for ident, step, state, reason, attempt, version in rows:
            before = self.last.get(ident)
            self.last[ident] = now = (step, state, reason, attempt, version)
            if not before or before == now:
                continue
            if version < before[4] or (before[0] == 4 and step != 4) or \
                    (step != 4 and (attempt, step) < (before[3], before[0])):
                self.wrong.append(f"evaluation {ident} went from {before} to {now}")

    def _run(self):
        while not self._stop.wait(0.3):
            self.look()


assert set(WEIGHTS) == set(KINDS)
