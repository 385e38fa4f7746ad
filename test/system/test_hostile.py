# SPDX-License-Identifier: MIT
"""Hostile submissions (test/hostile) in a sandbox: the verdict, every attempt, and the host before and after."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from lib import boxes
from lib.boxes import Box

HOSTILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../hostile")
GROUPS = boxes.groups()
LIMITS = {"memory_bytes": 256 << 20, "pids": 64, "disk_bytes": 32 << 20, "wall_usec": 20000000}
USER = 20001
OUTER = {"memory": ("memory.limit_in_bytes", "memory.max", 1 << 30), "pids": ("pids.max", "pids.max", 2000)}
# A world of its own: what escapes is seen, and can reach nobody.
WORLD = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--propagation", "private")
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not {"v1_memory", "v2_memory"} & set(GROUPS), reason="no memory controller"),
              pytest.mark.skipif(not {"v1_pids", "v2_pids"} & set(GROUPS), reason="no pids controller")]


class Arena:
    """Bounds around everything, folders that the keeper's user owns, and boxes in it."""

    def __init__(self, user):
        self.uid = USER if user else 0
        self.base = tempfile.mkdtemp(prefix="zr-hostile-", dir="/var/tmp")
        self.groups, self._made, self._started = {}, [], []
        for key, value in GROUPS.items():
            if not isinstance(value, str):
                self.groups[key] = value
                continue
            self.groups[key] = self._group(os.path.join(value, os.path.basename(self.base)))
        boxes.pass_controllers(self.groups)
        for name, (file_v1, file_v2, most) in OUTER.items():
            group, file = (self.groups["v2"], file_v2) if GROUPS.get("v2_" + name) else (self.groups["v1_" + name], file_v1)
            with open(os.path.join(group, file), "w") as f:
                f.write(str(most))
        self.leaf = self._group(self.groups["v2"] + "/leaf")
        os.chmod(self.base, 0o755)
        for program in os.listdir(HOSTILE):
            shutil.copy2(os.path.join(HOSTILE, program), self._dir("ev"))

    def _group(self, path):
        os.mkdir(path)
        for p in (path, path + "/cgroup.procs"):
            os.chown(p, self.uid, self.uid)
        self._made.insert(0, path)
        return path

    def _dir(self, name):
        path = os.path.join(self.base, name)
        os.makedirs(path, exist_ok=True)
        return path

    def _enter(self):
        with open(self.leaf + "/cgroup.procs", "w") as f:
            f.write("0")

    def prepare(self, program, env=None, isolation=None, **kw):
        """A box with its spec.json, and the words that start its keeper as the arena's user."""
        box = Box(self.base, self.groups)
        kw["limits"] = {**LIMITS, **kw.get("limits", {})}
        box.write_spec(os.path.join(box.evaluator, program), isolation={"level": "sandbox", **(isolation or {})},
                       env=[f"{k}={v}" for k, v in (env or {}).items()], **kw)
        for top, _, files in os.walk(self.base):
            for name in [top, *(os.path.join(top, f) for f in files)]:
                os.lchown(name, self.uid, self.uid)
        drop = ("/usr/bin/setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--inh-caps=-all") if self.uid else ()
        return box, [*drop, boxes.KEEPER, box.dir]

    def run(self, program, starter_env=None, **kw):
        """One box; the host is as it was afterwards, and nobody is left."""
        box, words = self.prepare(program, **kw)
        job_uid = self.uid or 0x70000000 + 2  # the keeper is process 2 of its world
        world = subprocess.run([*WORLD, os.path.join(HOSTILE, "world"), str(job_uid), *words], stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, timeout=60, preexec_fn=self._enter, env={"PATH": "/usr/bin:/bin", **(starter_env or {})})
        assert world.returncode == 0, world.stderr
        assert json.loads(world.stdout) == {"status": 0, "survivors": {}, "late": {}, "changed": {}}
        assert not box.cgroup_dirs() and not os.path.exists(box.dir + "/jail")
        left = set(os.listdir(box.dir)) - {"spec.json", "journal", "out.log", "err.log", "control"}
        # The folders on the disk, which a sandbox does not use, stay for the next box: as they were made.
        for folder in left:
            path = os.path.join(box.dir, folder)
            assert folder in ("work", "tmp", "output") and not os.listdir(path) and os.lstat(path).st_mode == 0o40700, left
        return box, box.result()

    def start(self, program, **kw):
        box, words = self.prepare(program, **kw)
        box.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=self._enter, env={})
        self._started.append(box)
        return box

    def close(self):
        for box in self._started:
            box.stop()
        for d in self._made:
            for top, _, _ in os.walk(d, topdown=False):  # with what a keeper that was killed has left
                os.rmdir(top)
        shutil.rmtree(self.base)


@pytest.fixture(params=["root", "user"])
def arena(request):
    a = Arena(request.param == "user")
    yield a
    a.close()


def results(box):
    """What a program printed, as (what, result) in order."""
    return [tuple(line.split(": ", 1)) for line in box.read("out.log").decode(errors="replace").splitlines() if ": " in line]


def refused(box, allowed=(), but=()):
    """All attempts failed, except those named."""
    seen = results(box)
    assert seen
    done = {what for what, r in seen if r == "DONE"}
    assert done == set(allowed), (done, seen)
    assert {r for what, r in seen if what not in allowed and what not in but} <= {
        "EPERM", "EACCES", "ENOENT", "EROFS", "ENOSYS", "ESRCH", "EAFNOSUPPORT", "ECONNREFUSED", "ENETUNREACH", "ENXIO"}, seen
    return dict(seen)


def landlock_scope(r):
    """Kept from signalling others by Landlock, says the result: that takes its version 6. One that is not there must be said to be missing."""
    i = r["isolation"]
    version = [int(m.split(":")[1]) for m in i["mechanisms"] if m.startswith("landlock:")]
    assert bool(version) is not ("landlock" in {m["what"] for m in i["missing"]}), i
    return bool(version) and version[0] >= 6


def ipv6():
    try:
        socket.socket(socket.AF_INET6).close()
        return True
    except OSError:
        return False


def harmless(arena):
    """The next job in the same place."""
    box, r = arena.run("descriptors")
    assert r["reason"] == "ok", r


def test_fork_storm(arena):
    box, r = arena.run("fork-storm")
    assert r["violations"]["limits"]["pids"]["hit"]
    assert r["reason"] == "pids" and r["isolation"]["end"]["empty_usec"] < 1000000
    harmless(arena)


def test_clocks_in_a_storm(arena):
    """There is always one more child to reap: the wall limit holds all the same."""
    source = os.path.join(HOSTILE, "../bench/storm.c")
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-static", source, "-o", arena._dir("ev") + "/storm"], check=True)
    with open(arena._dir("ev") + "/rage", "w") as f:
        f.write("#!/bin/sh\nexec $ZR_EVALUATOR/storm storm 200 500\n")
    os.chmod(arena._dir("ev") + "/rage", 0o755)
    box, r = arena.run("rage", isolation={"level": "none"}, limits={"wall_usec": 1000000, "pids": 1900}, term_grace_usec=0)
    assert r["reason"] in ("wall-limit", "pids") and r["usage"]["wall_usec"] < 3000000 * boxes.LONGER, r


def test_memory_bomb_in_a_child(arena):
    box, r = arena.run("memory-bomb", limits={"memory_bytes": 64 << 20})
    assert r["reason"] == "memory" and (56 << 20) < r["usage"]["memory_peak_bytes"] <= 64 << 20
    assert r["violations"]["limits"]["memory_bytes"] == {"used": 64 << 20, "limit": 64 << 20, "hit": True}


@pytest.mark.parametrize("mode", ["bytes", "files"])
def test_fill(arena, mode):
    box, r = arena.run("fill", env={"MODE": mode})
    assert (r["reason"], r["exit_code"]) == ("disk", 9)
    seen = results(box)
    assert [what for what, _ in seen] == ["/box", "/tmp", "/dev/shm", "/output"]
    assert {e for _, e in seen} <= {"ENOSPC", "EFBIG"}
    harmless(arena)


def test_memory_before_disk(arena):
    box, r = arena.run("fill", env={"MODE": "bytes"}, limits={"disk_bytes": 512 << 20, "memory_bytes": 64 << 20})
    assert r["reason"] == "memory"


@pytest.mark.parametrize("mode,left", [("quiet", 1), ("loud", 1)])
def test_grandchild(arena, mode, left):
    box, r = arena.run("grandchild", env={"MODE": mode})
    assert r["reason"] == "ok" and r["isolation"]["end"]["leftovers"] == left
    assert r["usage"]["wall_usec"] < 2000000 and results(box) == [("said", "DONE")]


@pytest.mark.parametrize("mode", ["ignores", "stops", "stops-all"])
def test_stubborn(arena, mode):
    box, r = arena.run("stubborn", env={"MODE": mode}, limits={"wall_usec": 500000}, term_grace_usec=300000)
    assert r["reason"] == "wall-limit" and 500000 <= r["usage"]["wall_usec"] < 500000 + 200000


def test_spy(arena):
    box, r = arena.run("spy")
    assert r["reason"] == "ok"
    seen = refused(box, but={"seen", "own", "init"})
    assert seen["own"] == " ".join(["0" * 16] * 5 + ["1"])
    # CAP_KILL is what it passes a SIGTERM on with.
    assert seen["init"] == " ".join([str(arena.uid or 0x70000000), "0" * 16] + ["0" * 14 + "20"] * 2)
    assert seen["attach"] == seen["vm_readv"] == seen["getfd"] == "EPERM" and seen["seen"] == "1 2"


def test_killer(arena):
    box, r = arena.run("killer")
    assert r["reason"] == "ok"
    # A process 1 has the worker's user where that is all there is: it may be sent a signal, which the kernel drops, unless Landlock
    # keeps it off.
    reached = {"parent", "init"} if arena.uid and not landlock_scope(r) else set()
    refused(box, allowed={"alive"} | reached)


def test_environ(arena):
    box, r = arena.run("environ", starter_env={"AMQP_URL": "canary-password", "PGPASSWORD": "canary-too"})
    out = box.read("out.log").decode()
    assert r["reason"] == "ok" and "canary" not in out
    assert arena.base not in out and boxes.KEEPER not in out
    names = set(re.findall(r"^env: (\w+)=", out, re.M))
    assert names <= {"PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE"} | {"ZR_" + n for n in (
        "SUBMISSION", "OUTPUT", "PROGRESS_FD", "EVALUATION_ID", "ATTEMPT", "ATTEMPT_ID", "EVALUATOR", "PHASE")}


def test_descriptors(arena):
    box, r = arena.run("descriptors")
    assert r["reason"] == "ok" and results(box) == [("open", "0 1 2 3")]


def test_snoop(arena):
    other = arena._dir("spool/boxes/other")
    paths = [other + "/canary", arena._dir("sealed") + "/canary", arena._dir("ev/labels") + "/canary"]
    with contextlib.ExitStack() as stack:
        paths += [stack.enter_context(tempfile.NamedTemporaryFile(prefix="zr-hostile-", dir=d)).name for d in ("/tmp", "/dev/shm")]
        for path in paths:
            with open(path, "w") as f:
                f.write("canary")
            os.chmod(path, 0o644)
        arena.run("child-crash")  # the slot's previous job
        look = [*paths, "/evaluator/labels/canary", "/etc/shadow", "/root/.ssh", "/var/lib/zr"]
        box, r = arena.run("snoop", env={"LOOK_FOR": ":".join(look)}, score=os.path.join(arena.base, "ev/descriptors"), isolation={"reference": ["labels"]})
        assert r["reason"] == "ok"
        out = box.read("out.log").decode()
        # Its own program and the attempts name canaries themselves.
        assert [line for line in out.splitlines() if line.startswith("found:") and not line.startswith("found: /evaluator/s")] == []
        assert {r for what, r in results(box) if what == "look"} <= {"ENOENT", "EACCES"}


def test_network(arena):
    name = "zr-hostile-" + os.path.basename(arena.base)
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind("\0" + name)
        unix.listen()
        box, r = arena.run("network", env={"PORT": tcp.getsockname()[1], "NAME": name})
        assert r["reason"] == "ok"
        seen = refused(box, allowed={"own-loopback"}, but={"dns", "vsock-high"})
        assert seen["tcp-host"] == seen["abstract"] == "ECONNREFUSED"
        assert seen["tcp"] == seen["udp"] == "ENETUNREACH" and seen["vsock"] == seen["packet"] == "EAFNOSUPPORT"
        assert seen["dns"] == "fails" and "not supported" in seen["vsock-high"]
        v = r["violations"]
        # tcp, udp, and tcp6 where there is such a thing, are for elsewhere; sockets of six families, and one with high bits, are system calls.
        assert v["network"] >= 2 + ipv6() and v["loopback_refused"] >= 2 and v["calls"] == {"socket": v["calls_total"]} and v["calls_total"] >= 5


def test_network_of_the_host(arena):
    name = "zr-hostile-" + os.path.basename(arena.base)
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        box, r = arena.run("network", env={"PORT": tcp.getsockname()[1], "NAME": name}, isolation={"network": True})
        seen = dict(results(box))
        assert r["reason"] == "ok" and r["isolation"]["network"] == "host" and seen["tcp-host"] == "DONE"
        assert seen["vsock"] == seen["packet"] == "EAFNOSUPPORT" and seen["raw"] == "EPERM"
        assert "network" in {m["what"] for m in r["isolation"]["missing"]}


def test_devices(arena):
    box, r = arena.run("devices")
    assert r["reason"] == "ok"
    refused(box, allowed={"null"})


def test_host_writes(arena):
    groups = [os.path.join(g, f) for g in arena.groups.values() if isinstance(g, str) for f in ("cgroup.procs", "cgroup.kill", "tasks", "memory.limit_in_bytes")]
    box, r = arena.run("host-writes", env={"GROUPS_OF_HOST": ":".join(groups)})
    assert r["reason"] == "ok"
    refused(box, but={"read"})
    read = {line.split()[0]: line.split(" ", 1)[1] for what, line in results(box) if what == "read"}
    none = "No such file or directory", "Permission denied"
    assert {read[p] for p in ("/proc/kcore", "/proc/kmsg", "/proc/timer_list")} <= set(none)
    assert read["/proc/kallsyms"] in ("zeros", "No such file or directory", "Permission denied")


def test_writes_are_counted(arena):
    box, r = arena.run("writer", isolation={"writes": True})
    assert r["reason"] == "ok", box.read("err.log")
    refused(box, allowed={"inside"}, but={"rename", "rename-away"})
    writes = r["violations"]["writes"]
    assert writes["total"] == len([w for w, e in results(box) if w != "inside"]), (writes, results(box))
    assert set(writes["paths"]) == {"/usr/x", "/etc/passwd", "/evaluator/x", "/submission/x", "/x", "/var"}
    box, r = arena.run("writer", isolation={"writes": True, "stop": True})
    assert (r["reason"], r["detail"]) == ("violation", "run tried to write to /usr/x, and its evaluator says on_violation = stop")


def test_namespaces(arena):
    box, r = arena.run("namespaces")
    assert r["reason"] == "ok"
    seen = refused(box, but={"setuid-program", "setgroups", "setuid"})
    assert all(seen[n] == "EPERM" for n in ("unshare-user", "clone-user", "mount", "fsopen", "setns", "chroot", "settimeofday", "bpf"))
    assert seen["clone3"] == seen["io_uring"] == seen["keyctl"] == seen["add_key"] == "ENOSYS"
    assert seen["setuid"] in ("EPERM", "EINVAL") and seen["setuid-program"] == "not root"
    calls = r["violations"]["calls"]
    assert calls["unshare"] == calls["clone"] == 7 and calls["mount"] == 2 and "clone3" not in calls
    assert {"setns", "umount2", "fsopen", "open_tree", "mount_setattr", "chroot", "pivot_root", "open_by_handle_at", "settimeofday", "bpf",
            "perf_event_open", "userfaultfd", "io_uring_setup", "keyctl", "add_key", "syslog"} <= set(calls)
    assert r["violations"]["calls_total"] == sum(calls.values()) and not r["violations"]["calls_more"]


@pytest.mark.parametrize("program,what", [("namespaces", "run made the forbidden system call unshare"), ("network", "run tried to reach a network")])
def test_stop_on_violation(arena, program, what):
    box, r = arena.run(program, env={"PORT": 1, "NAME": "none"}, isolation={"stop": True})
    assert r["reason"] == "violation" and r["root_hash"]
    assert r["detail"] in (what + ", and its evaluator says on_violation = stop",
                           "run made the forbidden system call socket, and its evaluator says on_violation = stop")
    last = "setuid-program" if program == "namespaces" else "own-loopback"
    assert not box.has("out.log") or last not in dict(results(box))
    harmless(arena)


def test_flood_of_forbidden_calls(arena):
    """The keeper counts for a while, and the rest is refused by the kernel alone."""
    box, r = arena.run("flood")
    assert r["reason"] == "ok" and results(box) == [("refused", "DONE")]
    assert r["violations"]["calls"] == {"ptrace": 10000} and r["violations"]["calls_more"]
    harmless(arena)


def test_limits(arena):
    box, r = arena.run("limits")
    assert (r["reason"], r["signal"]) == ("signal", int(signal.SIGSEGV))
    refused(box, but={"affinity", "core", "fsize", "nofile", "rtprio", "nice"})
    seen = dict(results(box))
    assert seen["affinity"] == "EINVAL" and "DONE" not in seen.values()
    names = subprocess.run(["tar", "--zstd", "-tf", box.sealed + "/result.tar.zst"], capture_output=True, text=True, check=True).stdout.split()
    assert not [n for n in names if "core" in n]


def test_nothing_is_left_for_the_next(arena):
    box, r = arena.run("leave", env={"MODE": "leave"})
    assert r["reason"] == "ok" and r["isolation"]["end"]["leftovers"] == 1
    seen = dict(results(box))
    assert seen["shm"] == seen["socket"] == seen["file"] == "DONE" and seen["key"] == seen["ring"] == "ENOSYS" and seen["gpu-lock"] == "ENOENT"
    box, r = arena.run("leave", env={"MODE": "look"})
    assert r["reason"] == "ok"
    refused(box, allowed={"lock"})


def test_simultaneous_jobs_share_locks(arena):
    """Not closed, and said in every result."""
    box, r = arena.run("descriptors")
    assert "file-locks" in {m["what"] for m in r["isolation"]["missing"]}


def test_talker(arena):
    box, r = arena.run("talker")
    assert r["reason"] == "ok"
    names = subprocess.run(["tar", "--zstd", "-tf", box.sealed + "/result.tar.zst"], capture_output=True, text=True, check=True).stdout.split()
    assert "done" in names


def test_child_crash(arena):
    box, r = arena.run("child-crash")
    assert (r["reason"], r["exit_code"], r["signal"]) == ("ok", 0, None)


def test_odd_results(arena):
    box, r = arena.run("odd-results")
    assert r["reason"] == "ok"
    manifest = json.load(open(box.sealed + "/manifest.json"))
    assert {e["path"] for e in manifest["entries"] if e.get("type", "file") == "file"} <= {"good", "again", "sparse", ".zr/out.log", ".zr/err.log"}
    tar = subprocess.run(["tar", "--zstd", "-xOf", box.sealed + "/result.tar.zst", ".zr/out.log"], capture_output=True, check=True)
    assert tar.stdout == box.read("out.log") and b"forged" not in tar.stdout
    kinds = [e["type"] for e in manifest["refused"]]
    assert kinds.count("symlink") == 4 and {"fifo", "socket", "hardlink", "dir", "file"} <= set(kinds)  # the last two by their depth and name


@pytest.fixture
def user_arena():
    a = Arena(True)
    yield a
    a.close()


def test_jobs_of_one_user_run_one_at_a_time(user_arena):
    held = user_arena.start("stubborn", env={"MODE": "ignores"})
    with held.connect() as s:
        while b'"started"' not in s.recv(65536):
            pass
        second = user_arena.start("descriptors")
        canceled = user_arena.start("descriptors")
        with canceled.connect() as c:
            c.sendall(b'{"t":"cancel"}\n')
            assert canceled.wait()["reason"] == "canceled" and canceled.result()["started_at"] is None
        assert second.process.poll() is None and "started" not in [j["t"] for j in second.journal()]
        s.sendall(b'{"t":"cancel"}\n')
        assert held.wait()["reason"] == "canceled"
    assert second.wait()["reason"] == "ok" and second.result()["started_at"] > held.result()["finished_at"]
