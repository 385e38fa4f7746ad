# SPDX-License-Identifier: MIT
"""What is tortured: private servers, an API host with zr-update, two evaluation hosts, and whoever submits."""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import marks
import net
import tree
from lib.sandbox import Sandbox
from lib.services import BUILD, Services

HOSTS = ("h1", "h2")
# More hosts with zr-update, for scenarios that want them. They share folders for results and leaderboards.
API = ("u2", "u3")

# The first act of a job is a line of its own in the marker file; a lock shows two runs of one evaluation at the same time.
JOB = """#!/bin/bash
exec 9>>{folder}/lock.$ZR_EVALUATION_ID
flock -n -E 9 9
[ $? = 9 ] && alone=together || alone=alone  # or it was killed
echo "$ZR_EVALUATION_ID $ZR_ATTEMPT $ZR_ATTEMPT_ID $EPOCHREALTIME $alone" >>{folder}/runs
"""
BODY = """read -r seconds status size noise pour <"$ZR_SUBMISSION/answer"
echo "log of $ZR_ATTEMPT_ID"
echo '{"done":1,"total":2}' >&"$ZR_PROGRESS_FD"
[ "$seconds" = 0 ] || sleep "$seconds"
[ -z "$pour" ] || yes "$ZR_ATTEMPT_ID" 2>/dev/null | head -c "$pour"
yes "$ZR_ATTEMPT_ID" 2>/dev/null | head -c "$size" >"$ZR_OUTPUT/data"
[ -z "$noise" ] || head -c "$noise" /dev/urandom >"$ZR_OUTPUT/noise"
echo '{"score": 1, "attempt": "'"$ZR_ATTEMPT_ID"'"}' >"$ZR_OUTPUT/scores.json"
exit "$status"
"""

# The same behind walls, where nothing can be written outside of the box: a socket is told, and its connection lasts as long as the job.
WALLED = """#!/usr/bin/perl
use Socket;
$^F = 255;
my $s;
socket($s, PF_UNIX, SOCK_STREAM, 0) && connect($s, sockaddr_un("{folder}/socket")) or die "{folder}/socket: $!\\n";
syswrite $s, "$ENV{{ZR_EVALUATION_ID}} $ENV{{ZR_ATTEMPT}} $ENV{{ZR_ATTEMPT_ID}}\\n";
sysread($s, my $go, 1) or die "nobody counts runs\\n";
exec "/bin/bash", "-c", <<'END';
{body}END
"""
WALLED_CONF = """run = "run.sh"
isolation = "sandbox"
mounts = {{"{folder}"}}
memory = 256M
pids = 32
disk = 64M
"""

# seconds, exit status, bytes of output, bytes that cannot be compressed, bytes of log
KINDS = {"quick": "0 0 1000", "short": "0.5 0 100000", "medium": "2 0 20000", "long": "7 0 1000", "big": "0.2 0 8000000",
         "fails": "0.1 3 100", "noise": "0 0 1000 6000000", "aged": "130 0 1000", "pour": f"6 0 1000 0 {10 << 30}"}
LOG_CAP = 1 << 20


def data_of(attempt_id, size):
    line = attempt_id.encode() + b"\n"
    return (line * (size // len(line) + 1))[:size]


def log_of(attempt_id, poured):
    """What is kept of what a job wrote."""
    first, line = f"log of {attempt_id}\n".encode(), attempt_id.encode() + b"\n"
    total, tail = len(first) + poured, LOG_CAP // 4
    if total <= LOG_CAP:
        return first + data_of(attempt_id, poured)
    skip = (poured - tail) % len(line)
    return (first + data_of(attempt_id, LOG_CAP))[:LOG_CAP - tail] + b"\n[zr: %d bytes left out]\n" % (total - LOG_CAP) + \
        data_of(attempt_id, skip + tail)[skip:]


class World:
    """Servers and settings live for the whole run, daemons for one scenario."""

    def __init__(self, folder, lease=4):
        self.dir = folder
        self.net = net.Network(HOSTS, API)
        os.environ["ZR_DEV_LISTEN"] = net.SERVER
        self.services = Services(os.path.join(folder, "services")).up()
        self.site = Sandbox(self.services, "torture", (*HOSTS, *API))
        self.marks = os.path.join(folder, "marks")
        os.makedirs(self.marks)
        self.counter = marks.Counter(self.marks, marks.place(os.path.dirname(folder)))
        self._addresses()
        self.settings(lease=lease)
        self.site.prepare()
        self._content()
        self.mounts = tree.mounts()
        self.daemons = {}
        self.off = set()       # hosts that are gone: nobody starts their daemons
        self.ends = []         # (daemon, its exit status) of those that were started again
        self._minding = None

    def _addresses(self):
        """The hosts know the servers, and these the hosts, by their addresses on the bridge; each has an SSH server of its own."""
        address = {host.name: host.address for host in self.net.all()}
        for env in (self.site.env, *self.site.hosts.values()):
            with open(env["ZR_CONF"]) as f:
                text = f.read()
            text = re.sub(r'(host "(\w+)" \{\n\s*address = )"127.0.0.1"', lambda m: f'{m[1]}"{address.get(m[2], net.SERVER)}"', text)
            text = re.sub(r'(amqp_url = ".*@)127.0.0.1', rf"\g<1>{net.SERVER}", text)
            text = re.sub(r'(database_url = ".*@)127.0.0.1', rf"\g<1>{net.SERVER}", text)
            env["AMQP_URL"] = env["AMQP_URL"].replace("@127.0.0.1:", f"@{net.SERVER}:")
            env["DATABASE_URL"] = env["DATABASE_URL"].replace("@127.0.0.1:", f"@{net.SERVER}:")
            with open(env["ZR_CONF"], "w") as f:
                f.write(text)
        ssh, port = os.path.join(self.services.dir, "ssh"), self.services.status()["sshd"][1]
        with open(os.path.join(ssh, "host_key.pub")) as f:
            key = " ".join(f.read().split()[:2])
        with open(os.path.join(ssh, "known_hosts"), "a") as f:
            f.writelines(f"[{a}]:{port} {key}\n" for a in (net.SERVER, *address.values()))
        for name, host in self.net.hosts.items():
            host.sshd(os.path.join(ssh, "sshd_config"), port, os.path.join(self.services.dir, "log", f"sshd-{name}.log"))

    def ssh_of(self, host):
        return self.net.hosts[host].address, self.services.status()["sshd"][1]

    @contextlib.contextmanager
    def way_to(self, host, port):
        """The API host reaches this host by a port of its own meanwhile."""
        conf, hosts = self.site.env["ZR_CONF"], os.path.join(self.services.dir, "ssh/known_hosts")
        with open(conf) as f:
            before = f.read()
        with open(hosts) as f:
            keys = f.read()
        with open(conf, "w") as f:
            f.write(re.sub(rf'(host "{host}" \{{\n\s*address = )".*"(\n\s*port = )\d+', rf'\g<1>"127.0.0.1"\g<2>{port}', before))
        with open(hosts, "a") as f:
            f.write(f"[127.0.0.1]:{port} {keys.split(' ', 1)[1].splitlines()[0]}\n")
        try:
            yield
        finally:
            for path, text in ((conf, before), (hosts, keys)):
                with open(path, "w") as f:
                    f.write(text)

    SETTINGS = {"retry_delay": "0s", "infrastructure_retries": 30, "amqp_heartbeat": "5s", "fetch_timeout": "10s", "term_grace": "500ms", "log_cap": LOG_CAP}

    def settings(self, lease, **more):
        """For the daemons that start after this. The lease is in seconds."""
        self.lease = lease
        for host in API:
            for key in ("results", "leaderboards"):
                self.site.setting(f"{key}_dir", os.path.join(self.site.state, key), host=host)
        for host in (None, *HOSTS, *API):
            for key, value in {**self.SETTINGS, "lease": f"{lease}s", **more}.items():
                self.site.setting(key, value, host=host)

    def _content(self):
        site = self.site
        site.evaluator("mark", JOB.format(folder=self.marks) + BODY)
        site.evaluator("walled", WALLED.format(folder=self.counter.folder, body=BODY), conf=WALLED_CONF.format(folder=self.counter.folder))
        self.submissions, self.walled = {}, {}
        for challenge, evaluator, submissions in (("c", "mark", self.submissions), ("w", "walled", self.walled)):
            site.zr("challenges:add", challenge, "--evaluator", evaluator)
            for kind, line in KINDS.items():
                path = os.path.dirname(site.file(f"sub-{kind}/answer", line + "\n"))
                submissions[kind] = int(site.zr_id("submissions:create", challenge, path, "--author", kind))
            board = site.file(f"board-{challenge}.json", json.dumps({"label": f"board-{challenge}", "challenge": challenge, "entries": "all"}))
            site.zr("leaderboards:create", "-f", board)

    # --- daemons: whoever ends is started again, as systemd does ---

    def _start(self, name):
        env = getattr(self, "failpoint", {})
        if name == "update":
            return self.site.start("zr", "worker:run:update", "-w", self.workers, ready=False, env={**env, **self.update_env})
        if name in API:
            return self.site.start(*self.net.api[name].within(), os.path.join(BUILD, "zr"), "worker:run:update", "-w", 2, ready=False,
                                   host=name, name=f"update-{name}", env=env)
        return self.site.start(*self.net.hosts[name].within(), os.path.join(BUILD, "zr"), "worker:run:eval", "-w", self.workers, "--prefetch-count",
                               2, ready=False, host=name, name=f"eval-{name}", env={**env, **self.host_env.get(name, {})})

    def start_daemons(self, failpoint=None, update_env=None, host_env=None, api=(), workers=2):
        self.failpoint, self.update_env, self.host_env = failpoint or {}, update_env or {}, host_env or {}
        self.ends, self.workers = [], workers
        for name in ("update", *api, *HOSTS):
            if name not in self.off:
                self.daemons[name] = self._start(name)
        self._stop = threading.Event()
        self._minding = threading.Thread(target=self._mind, daemon=True)
        self._minding.start()

    def _mind(self):
        zombies = {}
        while not self._stop.wait(0.2):
            # A machine that has no room for a process now may have some in a moment.
            with contextlib.suppress(BlockingIOError):
                self._look_after(zombies)

    def _look_after(self, zombies):
        for name, daemon in list(self.daemons.items()):
            if not daemon.alive() and name not in self.off:
                self.ends.append((name, daemon.process.returncode))
                daemon.close()
                self.daemons[name] = self._start(name)
        for host in self.net.hosts.values():
            host.mind()
        # What was left to us and has ended: not what a call of ours is waiting for, which is reaped at once.
        now = time.monotonic()
        seen = set(tree.orphans_ended({d.pid for d in self.daemons.values()} | {h.server.pid for h in self.net.hosts.values()}))
        for pid in [p for p in zombies if p not in seen]:
            del zombies[pid]
        zombies.update({p: now for p in seen if p not in zombies})
        for pid, since in zombies.items():
            if now - since > 2:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass

    def stop_daemons(self):
        """What is wrong with their end, as sentences."""
        if not self._minding:
            return []
        self._stop.set()
        self._minding.join()
        self._minding, wrong = None, []
        # What the workers say at their end is for zr-update.
        for name, daemon in sorted(self.daemons.items(), key=lambda d: d[0] not in HOSTS):
            try:
                daemon.stop(30)
            except AssertionError as e:
                wrong.append(f"{name} does not end well: {str(e).splitlines()[0]}")
                daemon.kill_group()
            daemon.close()
        self.daemons = {}
        return wrong

    # --- roles ---

    def processes(self, role):
        return [p for p in tree.ours() if self.role(p) == role]

    def role(self, p):
        boxes = "/zr/spool/boxes/"
        if p.exe == "zr-eval":
            return "worker" if "--worker" in " ".join(p.argv) else "supervisor"
        if p.exe == "zr-update":
            return "update-worker" if "--worker" in " ".join(p.argv) else "update-supervisor"
        if p.exe in ("zr-fetch", "zr-box"):
            return "fetch" if p.exe == "zr-fetch" else "init" if p.elsewhere else "keeper"
        if boxes in p.cwd or p.env.get("ZR_ATTEMPT_ID"):
            return "job"
        return "other"

    # --- the site's own view ---

    def query(self, sql, *parameters):
        return self.site.query(sql, *parameters)

    def marks_read(self):
        """(evaluation, attempt, attempt id, time, alone) of each run"""
        return marks.read(self.marks)

    def marks_clear(self):
        for name in os.listdir(self.marks):
            os.unlink(os.path.join(self.marks, name))

    def forget_submissions(self):
        """The hosts have to fetch them anew."""
        for host in HOSTS:
            cache = os.path.join(self.site.dir, "hosts", host, "zr/cache")
            subprocess.run(["chmod", "-R", "u+w", cache], check=False, stderr=subprocess.DEVNULL)
            shutil.rmtree(cache, ignore_errors=True)

    def heal(self):
        """Everything is as on a good day."""
        self.off.clear()
        self.net.join()
        for p in tree.ours():
            p.signal(signal.SIGCONT)
        for name, (state, _, _) in self.services.status().items():
            if state != "ready":
                self.services.start(name)
        self.services.rabbitmqctl("set_vm_memory_high_watermark", "0.4")

    def keep(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        dump = subprocess.run([os.path.join(os.path.dirname(__file__), "../../scripts/dev"), "psql", self.services.dir, "-d",
                               "sb_torture", "-x", "-c", "select * from evaluation order by id", "-c",
                               "select * from attempt order by evaluation, attempt", "-c",
                               "select * from event where kind not in ('log') order by id", "-c", "select * from outbox", "-c",
                               "select * from parked_event"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        with open(os.path.join(folder, "tables"), "w") as f:
            f.write(dump.stdout + dump.stderr)
        for name in ("log", "zr", "hosts"):
            shutil.copytree(os.path.join(self.site.dir, name), os.path.join(folder, name), symlinks=True,
                            ignore_dangling_symlinks=True, ignore=_only_files)
        shutil.copytree(self.marks, os.path.join(folder, "marks"))
        shutil.copytree(os.path.join(self.services.dir, "log"), os.path.join(folder, "services"))

    def close(self):
        self.stop_daemons()
        end = time.monotonic() + 5
        while (left := [p for p in tree.ours() if p.exe.startswith("zr-") or self.role(p) == "job"]) and time.monotonic() < end:
            for p in left:
                p.signal(signal.SIGKILL)
            time.sleep(0.05)
        remove_groups(self.dir)
        self.counter.close()
        self.site.close()
        self.services.down()
        self.net.close()


def _only_files(folder, names):
    def other(path):
        return not (os.path.isfile(path) or os.path.isdir(path) or os.path.islink(path)) or "password" in path
    return [n for n in names if other(os.path.join(folder, n))]


def remove_groups(folder):
    """The control groups of boxes that are still there, as they are after a run that was broken off."""
    for box in glob.glob(os.path.join(folder, "**/spool/boxes/*-*"), recursive=True):
        for top in glob.glob(f"/sys/fs/cgroup/**/zr-{os.path.basename(box)}*", recursive=True):
            for path, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    pass


def built():
    return os.path.exists(os.path.join(BUILD, "zr"))
