# SPDX-License-Identifier: MIT
"""The invariants, asked after every scenario when all is healed and quiet. Sentences of what is wrong, by kind: lost (a promise was
broken for good), stuck (something is not over or was left behind), doubled (a run that nothing excuses)."""
import glob
import hashlib
import json
import os
import time

import psycopg2

import tree
from faults import any_between
from world import API, HOSTS, KINDS, data_of, log_of

QUIET = """select
	(select count(*) from evaluation where step < 4) as open,
	(select count(*) from outbox) as outbox,
	(select count(*) from attempt where results_state = 'pending') as pending,
	(select count(*) from leaderboard_dirty) as dirty"""

UID_FIRST = 0x70000000  # users of jobs, as cmd/zr-box/jail.c gives them out

FOLDERS = ("spool/boxes", "sealed", "incoming")


def host_states(world):
    return [world.site.state] + [os.path.join(world.site.dir, "hosts", h, "zr") for h in (*HOSTS, *API)]


def queues(world):
    """{name: messages} of the site's work queues; streams keep what they have."""
    lines = world.services.rabbitmqctl("list_queues", "-q", "-p", "sb.torture", "name", "type", "messages").splitlines()
    rows = (line.split() for line in lines)
    return {r[0]: int(r[2]) for r in rows if len(r) == 3 and r[2].isdigit() and "stream" not in r[1]}


def leftovers(world):
    """What is not over yet, as words; {} when it is quiet."""
    left = {}
    try:
        row = world.query(QUIET)[0]
        left.update({k: n for k, n in zip(("evaluations open", "outbox", "results pending", "boards dirty"), row) if n})
    except psycopg2.Error as e:
        return {"database": str(e)}
    for state in host_states(world):
        for folder in FOLDERS:
            path = os.path.join(state, folder)
            names = [n for n in (os.listdir(path) if os.path.isdir(path) else [])]
            if names:
                left[os.path.relpath(path, world.site.dir)] = sorted(names)[:5]
    jobs = world.processes("job")
    if jobs:
        left["jobs"] = [str(p) for p in jobs][:5]
    if left:
        return left
    full = {name: n for name, n in queues(world).items() if n > (5 if name == "zr.update" else 0)}
    return {"queues": full} if full else {}


def wait_quiet(world, timeout):
    """None, or what is left after so long."""
    deadline = time.monotonic() + timeout
    while True:
        left = leftovers(world)
        if not left:
            return None
        if time.monotonic() > deadline:
            return left
        time.sleep(0.3)


class Check:
    def __init__(self, world, load, watch, trouble):
        self.world, self.load, self.watch, self.trouble = world, load, watch, trouble
        self.lost, self.stuck, self.doubled = [], [], []
        columns = "id, submission, state, reason, step, attempt, attempt_id, created_at"
        self.evaluations = {r[0]: dict(zip(columns.split(", "), r)) for r in world.query(f"select {columns} from evaluation")}
        columns = "evaluation, attempt, attempt_id, host, worker, end_state, ending, results_state, results_path, started_at, ended_at"
        self.attempts = {r[2]: dict(zip(columns.split(", "), r)) for r in
                         world.query(f"select {columns} from attempt order by attempt, attempt_id")}
        self.kind = {v: k for submissions in (world.submissions, world.walled) for k, v in submissions.items()}
        # Of each evaluation: also those that were killed before they left their mark.
        self.begun = {}
        for attempt_id, a in self.attempts.items():
            self.begun.setdefault(a["evaluation"], []).append(str(attempt_id))
        self.runs = {}
        for run in world.marks_read():
            self.runs.setdefault(run[0], []).append(run)

    def everything(self):
        for ident in self.load.said:
            if ident not in self.evaluations:
                self.lost.append(f"evaluation {ident} was confirmed and is not there")
        for e in self.evaluations.values():
            self.one(e)
        self.lost += self.watch.wrong
        parked = self.world.query("select reason, detail from parked_event")
        self.lost += [f"an event was set aside: {r} {d}" for r, d in parked]
        self.results()
        self.why()
        self.board()
        return self

    def one(self, e):
        ident, runs = e["id"], self.runs.get(e["id"], [])
        if e["step"] != 4 or e["state"] not in ("completed", "failed", "canceled"):
            self.stuck.append(f"evaluation {ident} is {e['state']}, step {e['step']}, attempt {e['attempt']}")
            return
        self.outcome(e, runs)
        self.executions(ident, runs)
        if e["state"] == "completed":
            self.result(e)

    def outcome(self, e, runs):
        """Is the end one that may be?"""
        ident, kind = e["id"], self.kind[e["submission"]]
        begun = {*self.begun.get(ident, []), *(r[2] for r in runs)}
        said, killed = (e["state"], e["reason"]), any(self.hit(a) for a in begun)
        keepers = len(begun & self.trouble.keepers)
        fine = said == ("completed", "ok") and kind != "fails" or said == ("failed", "exit") and kind == "fails" or \
            said[0] == "canceled" and (ident in self.load.canceled or ident in self.asked_cancel()) or \
            said[0] == "failed" and said[1] in ("exit", "signal") and killed or said == ("failed", "poison") and keepers >= 2
        if not fine:
            self.lost.append(f"evaluation {ident} ({kind}) ended {said[0]}, {said[1]}")
        if ident in self.load.canceled and said[0] != "canceled":
            # The cancel may have come too late: then it had ended, or the attempt that runs is over.
            ending = self.attempts.get(e["attempt_id"], {}).get("ending")
            if not ending:
                self.lost.append(f"evaluation {ident} was canceled and ended {said[0]}, {said[1]}")
        if said[0] == "completed" and e["attempt_id"] not in [r[2] for r in runs]:
            self.lost.append(f"evaluation {ident} completed with attempt {e['attempt_id']}, which never ran")

    def hit(self, attempt_id):
        """One of its processes was killed, perhaps one of many. Who was a keeper when it was found may have become the job."""
        return str(attempt_id) in self.trouble.jobs | self.trouble.keepers

    def asked_cancel(self):
        if not hasattr(self, "_asked"):
            self._asked = {r[0] for r in self.world.query("select id from evaluation where cancel_at is not null")}
        return self._asked

    def executions(self, ident, runs):
        ids = [r[2] for r in runs]
        for attempt_id in set(ids):
            if ids.count(attempt_id) > 1:
                self.doubled.append(f"evaluation {ident}: attempt {attempt_id} ran {ids.count(attempt_id)} times")
            if attempt_id not in self.attempts:
                self.lost.append(f"evaluation {ident}: attempt {attempt_id} ran and is not recorded")
        runs = sorted(runs, key=lambda r: r[3])
        for i, run in enumerate(runs):
            if not run[4] and not self.trouble.suspended and not (i and runs[i - 1][1] == run[1] and self.taken_twice(runs[i - 1])):
                self.doubled.append(f"evaluation {ident}: attempt {run[1]} ran while another did")
        for before, after in zip(runs, runs[1:]):
            if not self.excused(before, after):
                ending = (self.attempts.get(before[2]) or {}).get("ending")
                self.doubled.append(f"evaluation {ident}: attempt {before[1]} ran at {before[3]:.1f}, attempt {after[1]} at {after[3]:.1f}, "
                                    f"and no fault explains it; the first one's end: {json.dumps(ending)}")

    def taken_twice(self, run):
        """The same request, and nobody could know: an acknowledgement was on its way when the worker or its connection was lost,
        and another host got the request, too; or the request was on its way when its sender was, and was sent again; or its host was
        cut off for a lease before it had claimed it, and it was sent again."""
        claimed = int(run[2].replace("-", "")[:12], 16) / 1000
        before = [a["ended_at"] for a in self.attempts.values() if a["evaluation"] == run[0] and a["attempt"] == run[1] - 1]
        asked = min([t for t in before if t] or [self.evaluations[run[0]]["created_at"]]).timestamp()
        hosts = {self.attempts[r[2]]["host"] for r in self.runs[run[0]] if r[1] == run[1] and r[2] in self.attempts}
        return len(hosts) > 1 and any_between(self.trouble.workers, claimed - 0.1, run[3] + 1) or \
            any_between(self.trouble.senders, asked - 0.2, claimed + 0.1) or \
            self.trouble.was_silent(asked, run[3], 2.5 * self.world.lease, None)

    def excused(self, before, after):
        ending = (self.attempts.get(before[2]) or {}).get("ending") or {}
        if before[2] in self.trouble.keepers:
            return True
        if self.trouble.unknown and (ending.get("keeper_died") or ending.get("reason") == "infrastructure"):
            self.trouble.unknown -= 1
            return True
        if ending.get("keeper_died"):
            return False
        if before[1] == after[1]:
            return self.taken_twice(before)
        a = self.attempts.get(before[2]) or {}
        return self.trouble.was_silent(before[3], after[3], self.world.lease, (a.get("worker") or "").split("/")[0])

    def result(self, e):
        a, ident = self.attempts.get(e["attempt_id"]), e["id"]
        if not a or a["results_state"] != "stored":
            self.lost.append(f"evaluation {ident}: its result is {a['results_state'] if a else 'of no attempt'}")
            return
        path = os.path.join(self.world.site.state, "results", a["results_path"])
        numbers = [int(float(n)) for n in KINDS[self.kind[e["submission"]]].split()]
        want = data_of(str(a["attempt_id"]), numbers[2])
        try:
            with open(os.path.join(path, "data"), "rb") as f:
                got = f.read()
            with open(os.path.join(path, ".zr/out.log"), "rb") as f:
                log = f.read()
        except OSError as error:
            self.lost.append(f"evaluation {ident}: its result cannot be read: {error}")
            return
        # What it would have written, or its log, may have been the killed one's to give.
        if self.hit(a["attempt_id"]):
            return
        if hashlib.sha256(got).digest() != hashlib.sha256(want).digest():
            self.lost.append(f"evaluation {ident}: its result has {len(got)} bytes, not the {len(want)} that the job wrote")
        if log != log_of(str(a["attempt_id"]), numbers[4] if len(numbers) > 4 else 0):
            self.lost.append(f"evaluation {ident}: its log is {log[:80]!r}, {len(log)} bytes")
        if (a["ending"].get("scores") or {}).get("attempt") != str(a["attempt_id"]):
            self.lost.append(f"evaluation {ident}: its scores are {a['ending'].get('scores')}")

    def why(self):
        """Some are asked about, one of each end."""
        ends = {(e["state"], e["reason"]): e for e in self.evaluations.values()}
        for e in ends.values():
            r = self.world.site.zr("evaluations:why", e["id"], check=False)
            if r.returncode or not r.stdout.startswith(f"{e['id']} is {e['state']}."):
                self.lost.append(f"evaluations:why {e['id']} says {r.stdout!r} {r.stderr!r}")

    def results(self):
        """Nothing is published but what the database says is stored."""
        top, found = os.path.join(self.world.site.state, "results"), set()
        for ident in os.listdir(top) if os.path.isdir(top) else []:
            if ident.isdigit() and int(ident) in self.evaluations:
                found |= {f"{ident}/{n}" for n in os.listdir(os.path.join(top, ident))}
        stored = {a["results_path"] for a in self.attempts.values() if a["results_state"] == "stored"}
        if found != stored:
            self.lost.append(f"published are {sorted(found - stored)} and not {sorted(stored - found)}")

    def board(self):
        for name, submissions in (("board-c", self.world.submissions), ("board-w", self.world.walled)):
            with open(os.path.join(self.world.site.state, f"leaderboards/{name}.json")) as f:
                data = json.load(f)["data"]
            shown = [(int(d["submission"]), int(d["evaluation"])) for d in data]
            want = {}
            for ident, e in self.evaluations.items():
                if e["state"] == "completed" and e["submission"] in submissions.values():
                    want[e["submission"]] = max(ident, want.get(e["submission"], 0))
            if sorted(shown) != sorted(want.items()):
                self.lost.append(f"{name} shows {sorted(shown)}, not {sorted(want.items())}")


def of_sandboxes(world):
    """What jobs in a sandbox could have left: processes, networks, users' files, mounts."""
    wrong = [f"a process of a sandbox is left: {p}" for p in tree.ours() if p.elsewhere or p.uid >= UID_FIRST]
    known = {os.stat(path).st_ino for path in ("/proc/self/ns/net", *(h.space for h in world.net.all()))}
    wrong += [f"a network is left: that of {p}" for p in tree.ours() if p.network and p.network not in known]
    for state in host_states(world):
        for top, _, files in os.walk(state):
            wrong += [f"{os.path.join(top, f)} belongs to the user of a job" for f in files if os.lstat(os.path.join(top, f)).st_uid >= UID_FIRST]
    return wrong + [f"a mount is left: {m}" for m in tree.mounts() - world.mounts]


def after_the_end(world, attempt_ids):
    """All daemons have ended: nothing of the jobs is there. Keepers see the end of their workers, and put away what they keep."""
    deadline = time.monotonic() + 10
    while [p for p in tree.ours() if p.exe == "zr-box"] and time.monotonic() < deadline:
        time.sleep(0.05)
    wrong = [f"a process is left: {p}" for p in tree.ours() if p.exe.startswith("zr-") or world.role(p) == "job"]
    for path in glob.glob("/sys/fs/cgroup/**/zr-????????-*", recursive=True):
        if os.path.basename(path)[3:] in attempt_ids:
            wrong.append(f"a control group is left: {path}")
    for state in host_states(world):
        for top, _, files in os.walk(os.path.join(state, "spool", "events")):
            for name in files:
                size = os.path.getsize(os.path.join(top, name))
                if size:
                    wrong.append(f"{size} bytes are left in {os.path.relpath(os.path.join(top, name), world.site.dir)}")
    wrong += of_sandboxes(world)
    # zr.update holds what was said since its reader ended: beats and ticks.
    full = {name: n for name, n in queues(world).items() if n and name != "zr.update"}
    if full:
        wrong.append(f"queues are not empty: {full}")
    return wrong
