# SPDX-License-Identifier: MIT
"""What goes wrong. Each fault notes what it did, so that the check can tell what it may have cost."""
import os
import random
import signal
import struct
import subprocess
import time

import tree


class Trouble:
    """What was done to the site: when leases may have run out, when acknowledgements may have been lost on their way, and which
    keepers and jobs were killed."""

    def __init__(self):
        self.silences = []      # (from, to, host or None for all): it may not have been heard of
        self.workers = []       # times at which a worker or its connection was lost
        self.senders = []       # and who sends requests or hands them on
        self.keepers, self.jobs = set(), set()
        self.suspended = False  # what stood still with its host has ended only when it went on
        self.unknown = 0        # attempts that a failpoint may have ended, whichever they are
        self.count = {}

    def silent(self, begin, end, host=None):
        self.silences.append((begin, end, host))
        self.workers += [begin, end]

    def was_silent(self, begin, end, lease, host):
        """May a lease of this host have run out between? The beats come every third of it, and a keeper ends its job a quarter before,
        so that two fifths of silence suffice. Those that follow each other add up."""
        total, last = 0.0, None
        for a, b, where in sorted(self.silences, key=lambda s: s[:2]):
            if b < begin - lease or a > end or where not in (None, host):
                continue
            if last is None or a - last > lease:
                total, last = 0.0, a
            total += max(0.0, b - max(a, last))
            last = max(last, b)
            if total >= 0.4 * lease:
                return True
        return False



def any_between(times, begin, end):
    return any(begin <= t <= end for t in times)


def attempt_of(process):
    """The attempt whose box a process works in."""
    name = process.env.get("ZR_ATTEMPT_ID")
    part = process.cwd.split("/spool/boxes/")
    if not name and len(part) == 1 and process.elsewhere:
        keeper = tree.parent(process)
        return attempt_of(keeper) if keeper else None
    return name or (part[1].split("/")[0] if len(part) > 1 else None)


# Not passed where there is a broker: test/torture/folder has these.
FOLDERS = ("channel_dir.c", "channel_pike.c", "dirfile.c", "dirtree.c")


def points():
    """(name, actions, file) of each failpoint that the sources have"""
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../scripts/failpoints")
    lines = subprocess.run([script], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.splitlines()
    return [(n, a.split(","), f) for n, a, f in map(str.split, lines) if not f.endswith(FOLDERS)]


class Failpoint:
    """NAME:ACTION[@N], once for all processes together; `pid` of the one that it hit, or 0."""

    def __init__(self, world, spec):
        self.world, self.spec = world, spec
        self.name, self.action = spec.split("@")[0].split(":")
        self.path = os.path.join(world.dir, "failpoint")
        with open(self.path, "wb") as f:
            f.write(bytes(16))
        self.env = {"ZR_FAILPOINT": spec, "ZR_FAILPOINT_STATE": self.path}

    @property
    def counts(self):
        """(how often it was passed, pid)"""
        with open(self.path, "rb") as f:
            return struct.unpack("QQ", f.read(16))

    def wait(self, seconds, trouble):
        """Until it was hit; what was stopped stands still for two leases. False: it was not."""
        end = time.monotonic() + seconds
        while not self.counts[1] and time.monotonic() < end:
            time.sleep(0.02)
        pid, begin = self.counts[1], time.time() - 0.1
        if not pid:
            return False
        trouble.count[f"failpoint {self.action}"] = trouble.count.get(f"failpoint {self.action}", 0) + 1
        trouble.unknown += 1
        if self.action == "stop":
            time.sleep(2 * self.world.lease)
            for p in tree.ours():
                if p.pid == pid:
                    p.signal(signal.SIGCONT)
        if self.name.split(".")[0] in ("update", "outbox", "collect", "board"):
            trouble.senders += [begin, time.time()]
        else:
            trouble.silent(begin, time.time() + 0.7)
        return True


class Faults:
    def __init__(self, world, seed):
        self.world, self.random, self.trouble = world, random.Random(f"{seed}/faults"), Trouble()

    def _killed(self, role):
        found = self.world.processes(role)
        if not found:
            return f"kill -9 {role}: there is none"
        p = self.random.choice(found)
        self.trouble.senders.append(time.time())
        p.signal(signal.SIGKILL)
        return f"kill -9 {role} {p.pid}"

    def _host(self, p):
        return next((h for h, env in self.world.site.hosts.items() if env["ZR_CONF"] == p.env.get("ZR_CONF")), None)

    def _kill_of_host(self, role, seconds):
        """A worker that begins anew so much later, and its box is adopted."""
        found = self.world.processes(role)
        if not found:
            return f"kill -9 {role}: there is none"
        p, begin = self.random.choice(found), time.time()
        p.signal(signal.SIGKILL)
        self.trouble.silent(begin, begin + seconds, self._host(p))
        return f"kill -9 {role} {p.pid} of {self._host(p)}"

    def worker(self):
        return self._kill_of_host("worker", 0.7)

    def supervisor(self):
        return self._kill_of_host("supervisor", 1.2)

    def keeper(self):
        busy = [p for p in self.world.processes("keeper") if attempt_of(p)]
        if not busy:
            return "kill -9 keeper: there is none"
        p = self.random.choice(busy)
        self.trouble.keepers.add(attempt_of(p))
        p.signal(signal.SIGKILL)
        return f"kill -9 keeper {p.pid} of {attempt_of(p)}"

    def _part(self, role):
        found = self.world.processes(role)
        if not found:
            return f"kill -9 {role}: there is none"
        p = self.random.choice(found)
        attempt = attempt_of(p)
        self.trouble.jobs.add(attempt)
        p.signal(signal.SIGKILL)
        return f"kill -9 {role} {p.pid} of {attempt}"

    def job(self):
        return self._part("job")

    def init(self):
        """Process 1 of a sandbox: all that runs in it ends with it."""
        return self._part("init")

    def fetch(self):
        return self._killed("fetch")

    def update_worker(self):
        return self._killed("update-worker")

    def update(self):
        return self._killed("update-supervisor")

    def _restart(self, name, how):
        begin, pause = time.time(), self.random.choice((0, 0, 2, 6))
        self.world.services.dev(how, name)
        time.sleep(pause)
        self.world.services.dev("start", name)
        if name == "rabbitmq":
            self.trouble.silent(begin, time.time() + 3)
        self.trouble.senders += [begin, time.time(), time.time() + 3]
        return f"{how} {name}, start after {pause} s, answers after {time.time() - begin:.1f} s"

    def broker_killed(self):
        return self._restart("rabbitmq", "kill")

    def broker_stopped(self):
        return self._restart("rabbitmq", "stop")

    def postgres_killed(self):
        return self._restart("postgres", "kill")

    def sshd_killed(self):
        return self._restart("sshd", "kill")

    def host_sshd_killed(self):
        """The server and all its sessions; the server is there again at once."""
        host = self.random.choice(list(self.world.net.hosts.values()))
        found = [p for p in tree.ours() if p.exe == "sshd" and host.has(p)]
        self.trouble.senders.append(time.time())
        for p in found:
            p.signal(signal.SIGKILL)
        return f"kill -9 of {len(found)} sshd of {host.name}"

    def link(self):
        host = self.random.choice(list(self.world.net.hosts.values()))
        mode, pause = self.random.choice(host.MODES), self.random.choice((1, 3, 2 * self.world.lease))
        self.cut(host, mode, pause)
        return f"{host.name} {mode} for {pause} s"

    def broker_was_away(self, begin, end, costs):
        """costs: a lease may have run out. Acknowledgements and requests that were on their way are lost in any case."""
        if costs:
            self.trouble.silent(begin, end)
        self.trouble.workers += [begin, end]
        self.trouble.senders += [begin, (begin + end) / 2, end]

    def cut(self, host, mode, pause, costs_a_lease=True):
        """Packets that were lost are sent again after up to as long as the link was away."""
        begin = time.time()
        host.cut_for(mode, pause)
        end = time.time() + min(pause, 3)
        if costs_a_lease:
            self.trouble.silent(begin, end, host.name)
        else:
            self.trouble.workers += [begin, end]

    def connections(self):
        begin = time.time()
        self.world.services.rabbitmqctl("close_all_connections", "torture")
        self.trouble.silent(begin, time.time())
        # On a busy machine it may take many seconds until it does so.
        whenever = [begin + i / 10 for i in range(int(10 * (time.time() - begin)) + 1)]
        self.trouble.workers += whenever
        self.trouble.senders += whenever
        return "close_all_connections"

    def connections_closed(self):
        """The same without rabbitmqctl, which takes two seconds."""
        begin = time.time()
        self.world.services.erl('[catch rabbit_networking:close_connection(P, "torture") || P <- rabbit_networking:connections()].')
        self.broker_was_away(begin, time.time() + 1, costs=True)
        return "connections closed"

    def backends(self):
        self.trouble.senders.append(time.time())
        self.world.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                         "and usename = current_user and pid <> pg_backend_pid()")
        return "pg_terminate_backend of all"

    def alarm(self):
        begin, pause = time.time(), self.random.choice((1, 3, 8))
        self.world.services.rabbitmqctl("set_vm_memory_high_watermark", "0.0000001")
        time.sleep(pause)
        self.world.services.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
        self.trouble.silent(begin, time.time() + 3)
        self.trouble.senders += [begin, time.time(), time.time() + 3]
        return f"memory alarm for {pause} s"

    def freeze(self):
        """Worker and supervisor of a host stand still for two leases, or for a moment."""
        return self.freeze_host(self.random.choice(list(self.world.daemons)), self.random.choice((1, 2 * self.world.lease)))

    def freeze_host(self, host, pause, look=lambda: None):
        """look: called before they go on."""
        begin, updates = time.time(), host not in self.world.net.hosts
        kinds = ("update-worker", "update-supervisor") if updates else ("worker", "supervisor")
        conf = (self.world.site.env if host == "update" else self.world.site.hosts[host])["ZR_CONF"]
        frozen = [p for kind in kinds for p in self.world.processes(kind) if p.env.get("ZR_CONF") == conf]
        for p in frozen:
            p.signal(signal.SIGSTOP)
        time.sleep(pause)
        look()
        for p in frozen:
            p.signal(signal.SIGCONT)
        if not updates:
            self.trouble.silent(begin, time.time() + 0.7, host)
        else:
            self.trouble.senders += [begin, time.time()]
        return f"SIGSTOP of {len(frozen)} processes of {host} for {pause} s"

    def drain(self):
        """SIGTERM, as a restart of the unit does it."""
        name = self.random.choice(list(self.world.daemons))
        daemon = self.world.daemons[name]
        if daemon.alive():
            daemon.signal(signal.SIGTERM)
            (self.trouble.workers if name in self.world.net.hosts else self.trouble.senders).append(time.time())
        return f"SIGTERM to {name}"

    WEIGHTS = {"worker": 5, "supervisor": 4, "keeper": 4, "job": 3, "init": 2, "fetch": 3, "update_worker": 4, "update": 3, "broker_killed": 2,
               "broker_stopped": 1, "postgres_killed": 2, "sshd_killed": 1, "host_sshd_killed": 2, "connections": 4, "backends": 3, "alarm": 1, "freeze": 2,
               "drain": 2, "link": 3}

    def one(self, only=None):
        names = only or list(self.WEIGHTS)
        name = self.random.choices(names, [self.WEIGHTS.get(n, 3) for n in names])[0]
        self.trouble.count[name] = self.trouble.count.get(name, 0) + 1
        return getattr(self, name)()
