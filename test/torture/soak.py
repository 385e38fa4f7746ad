# SPDX-License-Identifier: MIT
"""Long runs: SOAK evaluations with a kill each second, and SOAK reconnections with a hundred messages each."""
import contextlib
import os
import time

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


# --- reconnections ---

def size(process):
    """(resident KiB, descriptors, threads) of a process."""
    with open(f"/proc/{process.pid}/status") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line)
    return int(fields["VmRSS"].split()[0]), len(os.listdir(f"/proc/{process.pid}/fd")), int(fields["Threads"])


def groups(w):
    """Control groups of attempts that there ever were."""
    ids = {str(r[0]) for r in w.query("select attempt_id from attempt")}
    return sum(name[3:39] in ids for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith("zr-"))


def growth(samples):
    """Of the second half, the first one being warm: per cent of the least there."""
    half = samples[len(samples) // 2:]
    return 100 * (half[-1] - min(half)) / max(1, min(half))


def reconnections(t, name, seed):
    """All connections are closed as soon as they are back. Workers and update workers are as large at the end as in the middle."""
    w = t.world

    def act(f, stream):
        roles, samples, closed, begin = ("worker", "update-worker"), {}, 0, time.time()
        said = time.monotonic()
        while closed < t.options.soak:
            text = w.services.erl('C = rabbit_networking:connections(), [catch rabbit_networking:close_connection(P, "torture") || P <- C], length(C).')
            closed += int(text)
            time.sleep(0.25)
            if len(samples.setdefault("closed", [])) == 0 or closed - samples["closed"][-1] > t.options.soak / 40:
                samples["closed"].append(closed)
                for p in (p for r in roles for p in w.processes(r)):
                    samples.setdefault((p.pid, p.exe), []).append(size(p))
            if time.monotonic() - said > 60:
                said = time.monotonic()
                t.say(f"     {closed} of {t.options.soak} connections closed")
        f.broker_was_away(begin, time.time() + 2, True)
        f.trouble.senders += [begin + i / 10 for i in range(int(10 * (time.time() - begin)))]
        f.trouble.workers += [begin + i / 10 for i in range(int(10 * (time.time() - begin)))]
        f.trouble.count["connections closed"] = closed
        left = groups(w)
        t.say(f"     {left} control groups of all that ran")
        # One or two, by the kind of groups, for each job that runs now.
        wrong = [f"{left} control groups are there"] if left > 16 else []
        for who, list_ in samples.items():
            if who == "closed":
                continue
            for i, what in enumerate(("KiB", "descriptors", "threads")):
                values = [s[i] for s in list_]
                t.say(f"     {who[1]} {who[0]}: {what} {values[0]}, in the middle {values[len(values) // 2]}, at the end {values[-1]}")
                if len(values) > 10 and growth(values) > (15 if what == "KiB" else 40):
                    wrong.append(f"{who[1]} {who[0]} grows: {what} {values}")
        return wrong
    t.scenario(name, seed, act, lease=60, pause=0.3, kinds={"quick": 1})


SCENARIOS = {"soak/evaluations": evaluations, "soak/reconnections": reconnections}
