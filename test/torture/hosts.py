# SPDX-License-Identifier: MIT
"""Scenarios of a host itself: its wall clock is set, it sleeps, it has no descriptors or no memory left."""
import os
import resource
import signal
import struct
import subprocess
import time

import tree
from cuts import KINDS, busy

YEAR = 365 * 86400


class Clock:
    """The wall clock of the processes that are started with `env`: test/fake/clock.c."""

    def __init__(self, world, name):
        source = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../fake/clock.c")
        self.path, library = os.path.join(world.dir, f"clock-{name}"), os.path.join(world.dir, "clock.so")
        if not os.path.exists(library):
            subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source, "-o", library],
                           check=True)
            os.chmod(library, 0o755)
        with open(self.path, "wb") as f:
            f.write(bytes(8))
        os.chmod(self.path, 0o644)
        self.env = {"LD_PRELOAD": library, "ZR_FAKE_CLOCK": self.path}

    def set(self, seconds):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("q", int(seconds)))


def clocks(t, name, seed):
    """Those of a host and of the API host are set to and fro, ten years even; nothing is begun again."""
    host, api = Clock(t.world, "host"), Clock(t.world, "api")

    def act(f, stream):
        busy(t.world, stream)
        for i in range(8):
            f.random.choice((host, api)).set(f.random.choice((-10 * YEAR, -3600, 3600, 10 * YEAR)))
            f.trouble.count["clock set"] = i + 1
            time.sleep(1.5)
        host.set(0)
        api.set(0)
    t.scenario(name, seed, act, pause=0.2, kinds=KINDS, update_env=api.env, host_env={"h1": host.env})


def database_clock(t, name, seed):
    """By an hour and a day, forth and back, while leases are counted with it."""
    w, clock = t.world, Clock(t.world, "database")
    w.services.stop("postgres")
    w.services.dev("start", "postgres", env={**os.environ, **clock.env})

    def act(f, stream):
        busy(w, stream)
        for i, seconds in enumerate((3600, 0, 86400, -3600, 0)):
            clock.set(seconds)
            f.trouble.count["clock of the database set"] = i + 1
            time.sleep(3)
    try:
        t.scenario(name, seed, act, pause=0.2, kinds=KINDS)
    finally:
        w.services.stop("postgres")
        w.services.start("postgres")


def suspended(t, name, seed):
    """Everything of a host stands still for two leases, keepers and jobs too, and goes on."""
    host, w = t.world.net.hosts["h1"], t.world

    def act(f, stream):
        if not busy(w, stream, host):
            return [f"{host.name} never had a job"]
        begin = time.time()
        still = [p for p in tree.ours() if host.has(p) and p.pid != host.holder]
        for p in still:
            p.signal(signal.SIGSTOP)
        time.sleep(2 * w.lease)
        for p in still:
            p.signal(signal.SIGCONT)
        f.trouble.silent(begin, time.time() + 1, host.name)
        f.trouble.suspended = True
        f.trouble.count["host suspended"] = 1
        time.sleep(1)
        return []
    t.scenario(name, seed, act, pause=0.3, kinds=KINDS)


def limited(limit, value):
    """The zr programs of a host get no more of something for three seconds, again and again; nothing is begun again for it."""
    def play(t, name, seed):
        host = t.world.net.hosts["h1"]

        def restrain(p):
            try:
                _, hard = resource.prlimit(p.pid, limit)
                resource.prlimit(p.pid, limit, (value(p), hard))
            except (OSError, ValueError):
                pass

        def relax(p):
            try:
                _, hard = resource.prlimit(p.pid, limit)
                resource.prlimit(p.pid, limit, (hard, hard))
            except (OSError, ValueError):
                pass

        def act(f, stream):
            busy(t.world, stream)
            for i in range(4):
                begin, poor = time.time(), [p for p in tree.ours() if host.has(p) and p.exe == "zr-eval"]
                for p in poor:
                    restrain(p)
                time.sleep(3)
                for p in poor:
                    relax(p)
                f.trouble.workers += [begin, time.time(), time.time() + 1]
                f.trouble.count[name.split("/")[1]] = i + 1
                time.sleep(1)
        t.scenario(name, seed, act, pause=0.15, lease=30, kinds=KINDS)
    return play


def descriptors(p):
    return len(os.listdir(f"/proc/{p.pid}/fd")) + 1


def memory(p):
    with open(f"/proc/{p.pid}/statm") as f:
        return int(f.read().split()[0]) * 4096 + 4096


SCENARIOS = {
    "host/clocks": clocks,
    "host/database-clock": database_clock,
    "host/suspended": suspended,
    "host/descriptors": limited(resource.RLIMIT_NOFILE, descriptors),
    "host/memory": limited(resource.RLIMIT_AS, memory),
}
