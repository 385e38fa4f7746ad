# SPDX-License-Identifier: MIT
"""One keeper for many jobs in sandboxes: what it keeps for the next one, and that nothing of a job is among that."""
import os
import shutil

import pytest

from lib import boxes
from test_sandbox import GROUPS, Jailed, elsewhere, lines  # noqa: F401

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
              pytest.mark.skipif(not {"v1_memory", "v2_memory"} & set(GROUPS), reason="no memory controller")]

# What tells one tree from another, and one network; numbers alone are given out again.
WHERE = "stat -c %z /etc/passwd; stat -Lc '%i %z' /proc/self/ns/net\n"
OWN = "/box /tmp /output /dev/shm"


@pytest.fixture
def run(tmp_path):
    """Runs a job as the next one of the same keeper; its lines."""
    keeper, done = boxes.Keeper(), []

    def job(text, reason="ok", level="sandbox", **kw):
        box = Jailed(tmp_path)
        box.write_spec(text, **{**kw, "isolation": {"level": level, **kw.get("isolation", {})}})
        keeper.run(box)
        job.result = box.result()
        assert job.result["reason"] == reason, job.result
        assert not box.cgroup_dirs()
        done.append(box)
        return lines(box) if box.has("out.log") else []
    job.base, job.keeper = tmp_path, keeper
    yield job
    keeper.close()
    assert keeper.process.returncode == 0


def test_tree_and_network_stay(run):
    first = run(WHERE)
    assert [run(WHERE) for _ in range(3)] == [first] * 3


def test_what_a_job_leaves_is_gone(run):
    look = f"stat -c '%n %a %u %h %s' {OWN}; ls -A {OWN}; find / -xdev -user box ! -path '/proc/*'; df --output=used / | tail -1\n"
    fresh = run(WHERE + look)
    spoil = f"for d in {OWN}; do mkdir $d/deep; echo x >$d/deep/x; ln -s / $d/.link; mkfifo $d/pipe; chmod 777 $d; touch -d 2001-01-01 $d; done\n"
    assert run(WHERE + spoil) == fresh[:2]
    assert run(WHERE + look) == fresh
    # The folders themselves are new: their times say nothing either.
    assert not [t for t in run(f"stat -c %y {OWN}\n") if t.startswith("2001")]


def test_a_tree_of_many_files_is_not_kept(run):
    first = run(WHERE)
    assert run(WHERE + "for i in $(seq 200); do echo x >/tmp/$i; done\n") == first
    second = run(WHERE + "ls -A /tmp\n")
    assert len(second) == 2 and second[0] != first[0]


@pytest.mark.parametrize("use", [
    "echo x >/dev/udp/127.0.0.1/9", "echo x >/dev/udp/::1/9", "echo x >/dev/tcp/127.0.0.1/9", "echo x >/dev/udp/192.0.2.1/9"])
def test_a_network_that_was_used_is_not_kept(run, use):
    first = run(WHERE)
    assert run(WHERE + f"( {use} ) 2>/dev/null; true\n") == first
    seen = run.result["violations"]
    assert seen["network"] + seen["loopback_refused"] > 0 or "::1" in use
    second = run(WHERE)
    assert second[0] == first[0] and second[1] != first[1]
    assert run.result["violations"]["network"] == run.result["violations"]["loopback_refused"] == 0


def test_sockets_end_with_their_job(run):
    listen = """#!/usr/bin/python3
import os, signal, socket
print(os.readlink("/proc/self/ns/net"))
a = socket.socket(socket.AF_UNIX)
a.bind("\\0name")
a.listen()
b = socket.socket()
b.bind(("127.0.0.1", 4000))
b.listen()
if os.fork() == 0:
    os.setsid()
    signal.pause()
"""
    assert run(listen) == run(listen)


def test_the_submission_is_the_jobs_own(run):
    (run.base / "submission").mkdir()
    (run.base / "submission" / "answer").write_text("one")
    first = run(WHERE + "cat /submission/answer\n")
    shutil.move(run.base / "submission", run.base / "before")
    (run.base / "submission").mkdir()
    (run.base / "submission" / "answer").write_text("two")
    assert first[2:] == ["one"] and run(WHERE + "cat /submission/answer\n") == [*first[:2], "two"]


def test_a_replaced_evaluator_is_seen(run):
    first = run(WHERE)
    shutil.move(run.base / "ev", run.base / "before")
    (run.base / "ev").mkdir(mode=0o755)
    (run.base / "ev" / "new").write_text("x")
    second = run(WHERE + "ls /evaluator\n")
    assert second[0] != first[0] and "new" in second


def test_a_replaced_file_is_seen(run, elsewhere):  # noqa: F811
    data, fresh = (os.path.join(elsewhere, name) for name in ("data", "fresh"))
    for path, text in ((data, "one\n"), (fresh, "two\n")):
        with open(path, "w") as f:
            f.write(text)
    assert run(f"cat {data}\n", isolation={"mounts": [data]}) == ["one"]
    os.rename(fresh, data)
    assert run(f"cat {data}\n", isolation={"mounts": [data]}) == ["two"]


def test_another_view_is_another_tree(run, elsewhere):  # noqa: F811
    ref = run.base / "ev" / "ref"
    os.makedirs(ref)
    plain = run(WHERE)
    for other in ({"isolation": {"beside": [elsewhere]}},
                  {"isolation": {"reference": ["ref"]}}, {"limits": {"disk_bytes": 16 << 20}}, {"score": "true\n"},
                  {"isolation": {"mounts": ["/usr/share"]}}):
        assert run(WHERE, **other)[0] != plain[0]
    # A reference that is gone cannot be hidden, and that is said as for a first job.
    run("test ! -e /evaluator/ref/x\n", isolation={"reference": ["ref"]})
    shutil.rmtree(ref)
    run("true\n", reason="setup", isolation={"reference": ["ref"]})
    assert "the reference data" in run.result["detail"]


def test_other_levels_have_the_hosts(run):
    inside = run("readlink /proc/self/ns/net\n")
    host = os.readlink("/proc/self/ns/net")
    assert run("readlink /proc/self/ns/net\n", level="none") == [host]
    assert run("readlink /proc/self/ns/net\n", isolation={"network": True}) == [host]
    assert run("readlink /proc/self/ns/net\n") == inside != [host]


def test_failures_leave_no_tree(run):
    for text, reason in (("kill -9 $PPID $$\n", "signal"), ("exit 3\n", "exit"), ("sleep 60\n", "wall-limit")):
        run(text, reason=reason, limits={"wall_usec": 300000})
        assert len(run(WHERE + f"ls -A {OWN} | grep -v :\n")) >= 2
