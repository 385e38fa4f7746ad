# SPDX-License-Identifier: MIT
"""The dialect pike: the acceptance of its contract, by a driver that knows nothing else, on a local folder with inotify and
on a bind mount that is only looked at."""
import fcntl
import json
import math
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time

import pytest

from lib import gates, processes
from lib.fakegpu import FakeGpus, uuid
from lib.pike import STUB, Pike
from lib.services import BUILD
from lib.wait import stays, wait_for


@pytest.fixture(params=["inotify", "poll-bind"])
def make(request):
    made = []

    def new(**options):
        pike = Pike(polling=request.param != "inotify", **options)
        made.append(pike)
        if request.param != "inotify":
            if not gates.is_open("root"):
                pytest.skip("needs root")
            pike.bind()
        return pike
    yield new
    for pike in made:
        pike.close()


@pytest.fixture
def pike(make):
    p = make()
    p.start()
    return p


def alive_in(pike):
    """Processes of tasks: those that have the stub on their command line, or were started by it."""
    return {p: c for p, c in processes.working_in(pike.dir).items() if c.startswith(("python ", "sleep "))}


# --- A1 to A6: what a task and its answer are ---

def test_handshake(pike):
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes, 2)
    assert pike.pairs() == [] and len(pike.messages()) == 1


def test_a_good_task(pike):
    pike.ask("a", "import time, os\nwhile not os.path.exists('go'): time.sleep(0.02)\ngood()")
    pike.wait_started()
    seen = pike.seen("task_3-pike_1_0.py")
    code, out = f"{pike.scratch}/code/task_3-pike_1_0.py", f"{pike.scratch}/eval_output/task_3-pike_1_0.json"
    assert os.path.exists(code)
    assert seen["argv"] == [STUB, "--level", "3-pike", "--task", "1", "--code-path", code, "--output-path", out,
                            "--gpu-locks-dir", f"{pike.scratch}/gpu_locks", "--mode", "eager"]
    assert seen["called"] == "python"
    env = seen["env"]
    assert env["TORCH_CUDA_ARCH_LIST"] == "Hopper" and env["TORCH_EXTENSIONS_DIR"] == f"{pike.scratch}/torch_ext/0"
    assert env["TRITON_CACHE_DIR"] == f"{pike.scratch}/triton_cache/0" and env["TMPDIR"] == f"{pike.scratch}/tmp/0"
    assert all(os.path.isdir(env[k]) for k in ("TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "TMPDIR"))
    for key, value in pike.env.items():
        assert env[key] == value, key
    assert not [k for k in env if k.startswith("ZR_") and k not in pike.env] and "NOTIFY_SOCKET" not in env
    # The last two are what it writes this to and the folder that it reads then.
    assert seen["cwd"] == pike.dir and seen["fds"] == ["0", "1", "2", "3", "4"]
    open(os.path.join(pike.dir, "go"), "w").close()
    assert pike.reply("a") == {"stdout": "", "stderr": None, "timed_out": False, "eval_results": {
        "loaded": True, "correct": True, "max_diff": [0.0, 1e-05], "runtime": 1.25}}
    wait_for(lambda: not pike.left(), 5)
    assert pike.pairs() == []


@pytest.mark.parametrize("code, want", [
    ("result(loaded=True, correct=False, max_diff=[0.5, float('nan')])", {"loaded": True, "correct": False}),
    ("result(loaded=True, correct=False, max_diff=[float('inf'), -float('inf')])", {"loaded": True, "correct": False}),
    ("result(loaded=True, correct=True, max_diff=[0.5, 3, 0.25], runtime=7)", {"loaded": True, "correct": True, "max_diff": [0.5, 3.0, 0.25], "runtime": 7.0}),
    ("result(loaded=True, correct=True, max_diff=[], runtime=2.5, more=[1])", {"loaded": True, "correct": True, "max_diff": [], "runtime": 2.5}),
    ("result(loaded=True, correct=True, max_diff=[1.0])", {"loaded": False}),
    ("result(loaded=True, correct=True, max_diff=['x'], runtime=1.0)", {"loaded": False}),
    ("result(loaded=1)", {"loaded": False}),
    ("open(args.output_path, 'w').write('{')", {"loaded": False}),
    ("os.mkdir(args.output_path)", {"loaded": False}),
    ("good(); sys.exit(3)", {"loaded": True, "correct": True, "max_diff": [0.0, 1e-05], "runtime": 1.25}),
    ("good(); os.kill(os.getpid(), 9)", {"loaded": True, "correct": True, "max_diff": [0.0, 1e-05], "runtime": 1.25}),
], ids=["nan", "infinities", "whole", "extra", "no-runtime", "words", "not-bool", "torn", "folder", "exit", "killed"])
def test_results(pike, code, want):
    pike.ask("x", code)
    got = pike.reply("x")
    assert not got["timed_out"]
    assert {k: got["eval_results"].get(k) for k in want} == want and (want.get("loaded") or got["eval_results"] == want)
    text = next(iter(pike.texts().values()))
    if "nan" in code:
        assert '"max_diff": [0.5, NaN]' in text and "runtime" not in text and math.isnan(got["eval_results"]["max_diff"][1])
    if "inf')" in code:
        assert "[Infinity, -Infinity]" in text


def test_output_is_text(pike):
    pike.ask("err", "sys.stderr.write('boom\\n'); sys.exit(1)")
    got = pike.reply("err")
    assert got == {"stdout": "", "stderr": "boom\n", "eval_results": {"loaded": False}, "timed_out": False}
    pike.ask("bytes", "os.write(1, b'a\\xff\\xc3\\xa9\\0\\n'); good()")
    got = pike.reply("bytes")
    assert got["stdout"] == "a\ufffd\u00e9\0\n" and got["eval_results"]["runtime"] == 1.25
    # More than is kept: head and tail, and a word between them.
    pike.ask("much", "print('é' * 2000000 + 'end'); good()")
    got = pike.reply("much")
    assert len(got["stdout"]) < 1200000 and got["stdout"].endswith("end\n") and "bytes left out]" in got["stdout"]
    assert got["eval_results"]["runtime"] == 1.25


# --- A7, A8: the end of a task is the end of all of it ---

def test_a_task_that_hangs_with_a_descendant_on_its_output(make):
    pike = make(**{"wall-limit": "4s", "max-active-tasks": 1})
    pike.start()
    pike.ask("slow", "import subprocess, time\nsubprocess.Popen(['sleep', '12'])\nprint('here', flush=True)\ntime.sleep(60)")
    pike.wait_started()
    since = time.monotonic()
    got = pike.reply("slow", 7)
    assert time.monotonic() - since < 6
    assert got == {"stdout": None, "stderr": None, "eval_results": {"loaded": False}, "timed_out": True}
    assert not alive_in(pike)
    pike.ask("next", "good()")
    assert pike.reply("next")["eval_results"]["runtime"] == 1.25


@pytest.mark.parametrize("how", ["['sleep', '12']", "['setsid', 'sleep', '12']", "['sh', '-c', '(setsid sleep 12 &) &']"],
                         ids=["child", "setsid", "double-fork"])
def test_a_good_task_that_leaves_something_behind(pike, how):
    pike.ask("a", f"import subprocess\nsubprocess.Popen({how})\nprint('out')\ngood()")
    pike.wait_started()
    got = pike.reply("a", 3)
    assert got["eval_results"]["runtime"] == 1.25 and not got["timed_out"] and got["stdout"] == "out\n"
    wait_for(lambda: not alive_in(pike), 2)


# --- A9 to A12: requests of every kind ---

def test_odd_requests_are_answered_and_cost_no_place(make):
    pike = make(**{"max-active-tasks": 2})
    pike.start()
    good = {"type": "eval", "level": "3-pike", "task": 1, "code": "good()", "mode": "eager"}
    odd = {"no-mode": {"mode": ...}, "null-mode": {"mode": None}, "no-level": {"level": ...}, "no-task": {"task": ...},
           "no-code": {"code": ...}, "code-5": {"code": 5}, "slash": {"level": "a/b"}, "up": {"task": "../../x"},
           "weird": {"type": "weird"}, "no-type": {"type": ...}, "number": {"level": 3, "task": "7"}, "newline": {"level": "a\nb"},
           "long": {"level": "x" * 100}, "list": {"task": [1]}, "type-5": {"type": 5}, "dash": {"task": -1}, "null": {"level": None}}
    for ident, change in odd.items():
        pike.send({k: v for k, v in {"id": ident, **good, **change}.items() if v is not ...})
    ids = [{"x": 1, "y": [1.5, None, "é"]}, 17, None, "", ["a"], True]
    for ident in ids:
        pike.send({"id": ident, **good})
    pike.send(good)
    for _ in range(2):
        pike.send({"type": "nothing-else"})
    good_ones = {"no-mode", "null-mode", "weird", "no-type", "number", "type-5", "dash"}
    for ident in odd:
        got = pike.reply(ident)
        assert got["eval_results"]["loaded"] == (ident in good_ones), (ident, got)
        assert ident in good_ones or got["stderr"]
    for ident in ids:
        assert pike.reply(ident)["eval_results"]["runtime"] == 1.25
    wait_for(lambda: not pike.pairs(), 5)
    assert len(pike.messages()) == len(odd) + len(ids)
    wait_for(lambda: not pike.left(), 5)
    before = len(pike.started())
    pike.ask("s1", "import time; time.sleep(1); good()")
    pike.ask("s2", "import time; time.sleep(1); good()")
    wait_for(lambda: len(pike.started()) == before + 2, 3)
    assert not pike.replies("s1")
    pike.reply("s1"), pike.reply("s2")


def test_handshake_while_all_places_are_taken(make):
    pike = make(**{"max-active-tasks": 1})
    pike.start()
    pike.ask("long", "import time; time.sleep(30)")
    pike.ask("waits", "good()")
    pike.wait_started()
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes, 2)
    assert not pike.replies("long") and len(pike.pairs()) == 2


def test_close_answers_everybody_first(make):
    pike = make(**{"max-active-tasks": 1})
    worker = pike.start()
    pike.ask("runs", "import time; time.sleep(3); good()")
    pike.ask("waits", "good()")
    pike.wait_started()
    pike.send({"type": "close"})
    assert worker.wait(20) == 0
    for ident in ("runs", "waits"):
        assert pike.reply(ident, 0)["eval_results"]["runtime"] == 1.25
    assert pike.pairs() == [] and not pike.left()
    # After a close nobody comes for what lies there.
    pike.start()
    wait_for(lambda: not os.listdir(pike.output), 5)


def test_close_does_not_wait_for_ever(make):
    pike = make(**{"max-active-tasks": 1, "drain-limit": "1s"})
    worker = pike.start()
    pike.ask("runs", "import time; time.sleep(60)")
    pike.ask("waits", "good()")
    pike.wait_started()
    pike.send({"type": "close"})
    assert worker.wait(15) == 0
    for ident in ("runs", "waits"):
        got = pike.reply(ident, 0)
        assert got["eval_results"] == {"loaded": False} and "close" in got["stderr"] and not got["timed_out"]
    assert not alive_in(pike)


def test_pairs_that_are_not_messages(make):
    pike = make(grace="4s")
    pike.start()
    put = lambda name: open(os.path.join(pike.input, name), "w").close()  # noqa: E731
    put("late.done")
    put("never.done")
    pike.send(b'{"id": "torn", "type": "eval", "code": "goo', "torn")
    pike.send(b"[1]", "list")
    pike.send(b'{"id": "bytes", "code": "\xff"}', "bytes")
    os.mkdir(os.path.join(pike.input, "d.json"))
    put("d.done")
    put("alone.tmp")
    wait_for(lambda: not {"list.done", "bytes.done"} & set(pike.pairs()), 3)
    with open(os.path.join(pike.input, "late.json"), "w") as f:
        json.dump({"id": "late", "type": "eval", "level": "1", "task": 1, "code": "good()"}, f)
    assert pike.reply("late")["eval_results"]["runtime"] == 1.25
    # Whose id could be read is answered.
    for ident in ("torn", "bytes"):
        got = pike.reply(ident)
        assert got["eval_results"] == {"loaded": False} and got["stderr"]
    wait_for(lambda: not pike.pairs(), 8)
    log = pike.log()
    for stem in ("never", "torn", "list", "bytes", "d"):
        assert log.count(f"{stem}.json is rejected") == 1, stem
    rejected = os.listdir(os.path.join(pike.input, "rejected"))
    assert sum(n.endswith("-torn.json") for n in rejected) == 1 and sum(n.endswith("-d.json") for n in rejected) == 1
    assert os.path.exists(os.path.join(pike.input, "alone.tmp"))


# --- what strangers can put there ---

def immutable(on, *paths):
    subprocess.run(["chattr", "+i" if on else "-i", *paths], check=True)


def test_names_that_are_not_text_hold_nobody_up(pike):
    for stem in (b"\xff\xfe", b"a\nb", b"x" * 250, b"-rf", b"%s%n", b"a b'\""):
        path = os.path.join(os.fsencode(pike.input), stem)
        with open(path + b".json", "w") as f:
            json.dump({"id": stem.decode("latin-1"), "level": 1, "task": 1, "code": "good()"}, f)
        open(path + b".done", "w").close()
    pike.ask("last", "good()")
    assert pike.reply("last")["eval_results"]["runtime"] == 1.25
    for stem in (b"a\nb", b"x" * 250, b"-rf", b"%s%n", b"a b'\""):
        assert pike.reply(stem.decode("latin-1"))["eval_results"]["runtime"] == 1.25
    assert "UTF-8" in pike.reply("\xff\xfe")["stderr"]
    wait_for(lambda: not pike.pairs(), 5)


def test_an_id_may_be_long_but_not_without_end(pike):
    for n in (60000, 2 << 20):
        pike.ask("i" * n, "good()")
    wait_for(lambda: len(pike.messages()) == 2, 20)
    by_length = {len(m["id"]): m["results"] for m in pike.messages()}
    assert by_length[60000]["eval_results"]["runtime"] == 1.25
    assert by_length[2 << 20]["eval_results"] == {"loaded": False} and "'id'" in by_length[2 << 20]["stderr"]


@pytest.mark.needs("root")
def test_what_cannot_be_removed_is_run_once(make):
    pike = make(grace="1s")
    os.makedirs(pike.input)
    stems = [pike.ask("a", "good()"), pike.send({"type": "handshake"}), pike.send(b"no"), pike.ask("bad", 5)]
    files = [os.path.join(pike.input, s + e) for s in stems for e in (".json", ".done")]
    immutable(True, *files)
    try:
        pike.start()
        pike.reply("a")
        pike.reply("bad")
        wait_for(pike.handshakes)
        pike.ask("b", "good()")
        pike.reply("b")
        # Several scans later nothing has been done twice; it is said once.
        assert stays(lambda: len(pike.started()) == 2 and len(pike.handshakes()) == 1 and len(pike.messages()) == 4, 3.5) is None
        log = pike.log()
        assert log.count("cannot be removed") == 3 and log.count("it stays, and is passed over") == 4
    finally:
        immutable(False, *files)
    wait_for(lambda: not pike.pairs(), 5)
    assert len(pike.messages()) == 4


@pytest.mark.parametrize("what", ["zr", "."])
def test_a_task_that_removes_the_workers_own_folder(make, what):
    """Whoever waits is answered, once, and the worker begins anew."""
    pike = make(**{"max-active-tasks": 2})
    pike.start()
    pike.ask("waits", "import time\ntime.sleep(60)\ngood()")
    pike.wait_started()
    pike.ask("removes", f"import os, shutil\nshutil.rmtree(os.path.join(os.path.dirname(args.code_path), '..', {what!r}), True)\ngood()")
    assert pike.reply("waits", 30)["eval_results"] == {"loaded": False}
    pike.reply("removes", 30)
    pike.ask("after", "good()")
    assert pike.reply("after", 60)["eval_results"]["loaded"]
    assert sorted(m["id"] for m in pike.messages()) == ["after", "removes", "waits"]
    assert "was removed: the worker begins anew" in pike.log()


def test_an_id_that_is_not_utf8_is_not_sent_back(pike):
    """A driver would read such an answer again and again."""
    pike.send(b'{"id": "u\xff", "level": 1, "task": 1, "code": "good()"}', "first")
    pike.send(b'{"id": "whole", "level": 1, "task": 1, "code": "\xff"}', "second")
    assert "UTF-8" in pike.reply("whole")["stderr"]
    wait_for(lambda: not pike.pairs(), 5)
    assert [m["id"] for m in pike.messages()] == ["whole"] and "first.json is rejected" in pike.log()


@pytest.mark.needs("root")
def test_an_output_folder_that_takes_nothing(make):
    pike = make(grace="1s")
    pike.start()
    immutable(True, pike.output)
    try:
        pike.ask("bad", 5)
        pike.send(b'{"id": "torn", "code": ', "torn")
        pike.send({"id": "nothing"}, "nothing")
        wait_for(lambda: pike.log().count("an answer waits") >= 6, 10)
        # Nobody is given up, and it is said once at each look.
        assert stays(lambda: len(pike.pairs()) == 6 and pike.log().count("an answer waits") < 100, 2) is None
    finally:
        immutable(False, pike.output)
    for ident in ("bad", "torn", "nothing"):
        assert pike.reply(ident)["eval_results"] == {"loaded": False}


@pytest.mark.parametrize("again", ["", "os.mkdir(d)"])
@pytest.mark.parametrize("name", ["code", "eval_output", "tmp", "torch_ext", "triton_cache"])
def test_a_task_that_removes_the_scratch_folders(pike, name, again):
    pike.ask("a", f"import shutil; d = {os.path.join(pike.scratch, name)!r}; shutil.rmtree(d); {again or 'pass'}\n"
                  f"os.makedirs({os.path.join(pike.scratch, 'eval_output')!r}, exist_ok=True); good()")
    assert pike.reply("a")["eval_results"]["runtime"] == 1.25
    pike.ask("b", "good()")
    assert pike.reply("b")["eval_results"]["runtime"] == 1.25
    wait_for(lambda: not pike.left(), 5)


def test_what_a_task_puts_in_the_way_of_the_next(pike):
    pike.ask("a", f"""import shutil
os.makedirs({pike.scratch!r} + "/code/task_3-pike_1_1.py/x")
open({pike.scratch!r} + "/tmp/1", "w").close()
good()
shutil.copy(args.output_path, {pike.scratch!r} + "/eval_output/task_3-pike_1_1.json")""")
    assert pike.reply("a")["eval_results"]["runtime"] == 1.25
    pike.ask("b", "print(os.path.isdir(os.environ['TMPDIR'])); sys.exit(1)")
    got = pike.reply("b")
    assert got["eval_results"] == {"loaded": False} and got["stdout"] == "True\n"
    wait_for(lambda: not pike.left(), 5)


@pytest.mark.needs("root")
def test_a_scratch_that_takes_nothing_leaves_no_litter(pike):
    code = os.path.join(pike.scratch, "code")
    immutable(True, code)
    try:
        pike.ask("a", "good()")
        wait_for(lambda: pike.log().count("tasks wait") >= 3, 10)
        assert not pike.left()
    finally:
        immutable(False, code)
    assert pike.reply("a")["eval_results"]["runtime"] == 1.25 and pike.started() == ["task_3-pike_1_0.py"]


def test_a_folder_that_was_moved_away(pike):
    os.rename(pike.input, pike.input + ".old")
    os.mkdir(pike.input)
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes, 5)
    os.rename(pike.output, pike.output + ".old")
    pike.ask("a", "good()")
    assert pike.reply("a")["eval_results"]["runtime"] == 1.25


def test_odd_files_beside_the_pairs(make):
    pike = make(grace="1s")
    pike.start()
    os.symlink("/etc/passwd", os.path.join(pike.input, "rejected"))
    os.mkfifo(os.path.join(pike.input, "fifo.json"))
    os.symlink("/etc/passwd", os.path.join(pike.input, "link.json"))
    os.symlink("nowhere", os.path.join(pike.input, "dangling.json"))
    for name in ("fifo", "link", "dangling"):
        open(os.path.join(pike.input, name + ".done"), "w").close()
    for name in ("dir", "fifodone"):
        with open(os.path.join(pike.input, name + ".json"), "w") as f:
            json.dump({"id": name, "level": 1, "task": 1, "code": "good()"}, f)
    os.mkdir(os.path.join(pike.input, "dir.done"))
    os.mkfifo(os.path.join(pike.input, "fifodone.done"))
    for name in ("dir", "fifodone"):
        assert pike.reply(name)["eval_results"]["runtime"] == 1.25
    pike.ask("a", "good()")
    assert pike.reply("a")["eval_results"]["runtime"] == 1.25
    os.unlink(os.path.join(pike.input, "rejected"))
    wait_for(lambda: not pike.pairs(), 10)
    assert len(pike.started()) == 3 and len(pike.messages()) == 3


@pytest.mark.parametrize("make", ["inotify"], indirect=True)
def test_a_hundred_thousand_pairs(make, monkeypatch):
    """Whose times are in the order of no name. A handshake and an answer come while they are read."""
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    pike = make(**{"max-active-tasks": 1})
    os.makedirs(pike.input)
    n, now = 100000, time.time()
    for i in range(n):
        stem = os.path.join(pike.input, f"{i * 7919 % n:06d}")
        with open(stem + ".json", "w") as f:
            f.write('{"id": %d, "level": 1, "task": %d, "code": "good()"}' % (i, i))
        os.close(os.open(stem + ".done", os.O_CREAT | os.O_WRONLY))
        os.utime(stem + ".done", (now, now + i * 0.001))
    worker = pike.start()
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes, 60)
    wait_for(lambda: len(pike.texts()) > 20, 60)
    begun = sorted((pike.seen(name) for name in pike.started()), key=lambda s: s["at"])
    assert [int(s["argv"][4]) for s in begun[:15]] == list(range(15))
    assert "silent" not in worker.log()


# --- D7: what is old ---

def test_requests_left_from_before_are_run_and_their_age_is_told(make):
    pike = make()
    os.makedirs(pike.input)
    for ident, age in (("young", 5), ("old", 7200), ("ahead", -3600)):
        stem = pike.ask(ident, "good()")
        os.utime(os.path.join(pike.input, stem + ".done"), (time.time() - age,) * 2)
        if ident != "ahead":
            older = stem
    pike.start()
    for ident in ("young", "old", "ahead"):
        assert pike.reply(ident)["eval_results"]["runtime"] == 1.25
    ages = [int(a) for a in re.findall(r"was left from before this worker's start: it is (\d+) s old", pike.log())]
    assert len(ages) == 2 and 7200 <= ages[0] < 7300 and 5 <= ages[1] < 105 and older in pike.log()
    pike.ask("new", "good()")
    pike.reply("new")
    assert pike.log().count("s old") == 2


def test_requests_over_the_maximum_age_are_answered_and_not_run(make):
    pike = make(**{"max-age": "1h"})
    os.makedirs(pike.input)
    for ident, age in (("young", 3000), ("old", 4000)):
        stem = pike.ask(ident, "good()")
        os.utime(os.path.join(pike.input, stem + ".done"), (time.time() - age,) * 2)
    pike.start()
    got = pike.reply("old")
    assert got["eval_results"] == {"loaded": False} and not got["timed_out"] and got["stdout"] is None
    assert re.search(r"it is 40\d\d s old, and this worker runs nothing older than 3600 s", got["stderr"])
    assert pike.reply("young")["eval_results"]["runtime"] == 1.25
    assert len(pike.started()) == 1 and pike.pairs() == []


# --- D15: the files of a task ---

def test_files_of_tasks_are_kept_when_told_so(make):
    pike = make(**{"task-files": "keep"})
    worker = pike.start()
    code = "import os\nopen(os.path.join(os.environ['TMPDIR'], 'trace'), 'w').close()\ngood()"
    pike.ask("a", code)
    pike.reply("a")
    pike.ask("b", code, task=2)
    pike.reply("b")
    kept = {"code/task_3-pike_1_0.py", "code/task_3-pike_2_1.py", "eval_output/task_3-pike_1_0.json", "eval_output/task_3-pike_2_1.json",
            "tmp/0", "tmp/1"}
    wait_for(lambda: set(pike.left()) == kept, 5)
    # A start, after a crash or not, neither removes them nor writes over them.
    worker.kill_group()
    pike.start().stop()
    pike.start()
    pike.ask("c", code)
    pike.reply("c")
    new = {"code/task_3-pike_1_2.py", "eval_output/task_3-pike_1_2.json", "tmp/2"}
    wait_for(lambda: set(pike.left()) == kept | new, 5)
    for n in range(3):
        assert os.listdir(os.path.join(pike.scratch, "tmp", str(n))) == ["trace"]
    # Without the option they go at the next start.
    pike.daemons[-1].stop()
    pike.start(**{"task-files": "remove"})
    wait_for(lambda: not pike.left(), 5)


# --- A13, A14, A18: crashes, locks, many ---

def test_a_killed_worker_leaves_nobody_without_a_reply(make):
    pike = make(**{"max-active-tasks": 3})
    worker = pike.start()
    pike.ask("before", "good()")
    pike.reply("before")
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes)
    hold = "import time, os\nfd = lock(args.task)\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint('done')\ngood()"
    for i in range(3):
        pike.ask(f"r{i}", hold, task=i)
    pike.wait_started(4)
    for i in range(2):
        pike.ask(f"w{i}", "good()", level="waits")
    worker.kill_group()
    pike.start()
    # Unread answers are there still, a handshake is not; the tasks have not been begun again.
    assert pike.reply("before", 0)["eval_results"]["runtime"] == 1.25 and not pike.handshakes()
    assert len(pike.started()) == 4
    open(os.path.join(pike.dir, "go"), "w").close()
    for ident in ("r0", "r1", "r2", "w0", "w1"):
        got = pike.reply(ident)
        assert got["eval_results"]["runtime"] == 1.25 and got["stdout"] == ("done\n" if ident[0] == "r" else "")
    assert len(pike.started()) == 6
    wait_for(lambda: not alive_in(pike), 5)
    assert len(pike.messages()) == 6
    wait_for(lambda: not pike.left(), 5)
    for i in range(3):
        with open(os.path.join(pike.scratch, "gpu_locks", f"gpu_{i}.lock")) as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_gpu_locks_are_free_when_the_task_is_dead(make):
    pike = make(**{"max-active-tasks": 2, "wall-limit": "3s"})
    pike.start()
    path = os.path.join(pike.scratch, "gpu_locks", "gpu_0.lock")
    # A fork without exec holds the lock as well.
    pike.ask("a", "import time\nfd = lock(0)\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(60)\ntime.sleep(60)")
    wait_for(lambda: os.path.exists(path), 10)
    inode = os.stat(path).st_ino
    with open(path) as f:
        wait_for(lambda: _busy(f), 5)
        assert pike.reply("a", 10)["timed_out"]
        assert not _busy(f)
    assert os.stat(path).st_ino == inode and os.path.getsize(path) == 0
    pike.ask("b", "lock(0); good()")
    assert pike.reply("b")["eval_results"]["runtime"] == 1.25


def _busy(f):
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(f, fcntl.LOCK_UN)
        return False
    except BlockingIOError:
        return True


def test_two_hundred_at_once(make):
    pike = make(**{"max-active-tasks": 1})
    for folder in (pike.input,):
        os.makedirs(folder)
    kinds = ["good()", "result(loaded=True, correct=False, max_diff=[1])", "sys.exit(1)", "print('x')"]
    now = time.time()
    stems = [pike.send({"id": i, "type": "eval", "level": "1", "task": i, "code": kinds[i % 4]}) for i in range(200)]
    # The times of the .done files are the order, whatever their names.
    order = sorted(range(200), key=lambda i: (i * 7919) % 200)
    for place, i in enumerate(order):
        os.utime(os.path.join(pike.input, stems[i] + ".done"), (now, now + place * 0.001))
    pike.start()
    wait_for(lambda: len(pike.texts()) == 200, 100)
    messages = pike.messages()
    assert sorted(m["id"] for m in messages) == list(range(200))
    for m in messages:
        assert (m["results"]["eval_results"] != {"loaded": False}) == (m["id"] % 4 < 2)
    begun = sorted((pike.seen(n) for n in pike.started()), key=lambda s: s["at"])
    assert [int(s["argv"][s["argv"].index("--task") + 1]) for s in begun] == order
    wait_for(lambda: not pike.left() and not pike.pairs(), 5)
    assert pike.take() and not os.listdir(pike.output)


# --- D22: several drivers ---

HOLD = "import time, os\nwhile not os.path.exists('go'): time.sleep(0.02)\ngood()"


@pytest.fixture
def two(make):
    """A worker with one place that serves two drivers."""
    a = make(**{"max-active-tasks": 1})
    b = a.other("second")
    a.options.update({"channel": ["dir:" + a.io, "dir:" + b.io], "scratch-dir": a.scratch})
    return a, b


def go(pike):
    open(os.path.join(pike.dir, "go"), "w").close()


def test_two_drivers_share_a_worker_and_nothing_else(two):
    a, b = two
    os.makedirs(a.input)
    # One who asks for much does not keep the other waiting.
    for i in range(20):
        a.ask(f"a{i}", "good()")
    for i in range(2):
        b.ask(f"b{i}", "good()", task=9)
    a.start()
    for one in two:
        with open(os.path.join(one.io, "ready.txt")) as f:
            assert f.read() == "1"
        one.send({"type": "handshake"})
        wait_for(one.handshakes)
    wait_for(lambda: len(a.messages()) == 21 and len(b.messages()) == 3, 30)
    assert {m["id"] for m in a.messages() if "id" in m} == {f"a{i}" for i in range(20)}
    assert {m["id"] for m in b.messages() if "id" in m} == {"b0", "b1"}
    begun = sorted((a.seen(n)["at"], "_9_" in n) for n in a.started())
    assert [second for _at, second in begun][:5] == [False, True, False, True, False]
    # The worker's files are in one place, the second folder has its pair of folders alone.
    assert sorted(os.listdir(b.io)) == ["input", "output", "ready.txt"]
    wait_for(lambda: not a.left(), 5)


def test_answers_find_their_driver_after_a_crash(two):
    a, b = two
    worker = a.start()
    b.ask("runs", HOLD)
    a.wait_started()
    a.ask("waits-a", "good()", level="a")
    b.ask("waits-b", "good()", level="b")
    worker.kill_group()
    # Started again in another order, and then without the second: its answer is owed, what waits there does not concern us.
    a.start(channel=["dir:" + b.io, "dir:" + a.io]).kill_group()
    a.start(channel=["dir:" + a.io])
    go(a)
    assert b.reply("runs")["eval_results"]["runtime"] == 1.25
    assert a.reply("waits-a")["eval_results"]["runtime"] == 1.25
    assert not a.replies("runs") and not b.replies("waits-b") and len(b.pairs()) == 2
    a.daemons[-1].stop()
    a.start()
    assert b.reply("waits-b")["eval_results"]["runtime"] == 1.25 and len(a.started()) == 3


def test_a_folder_that_is_owed_nothing_is_let_go(two):
    a, b = two
    worker = a.start()
    b.ask("runs", HOLD)
    a.wait_started()
    worker.kill_group()
    a.start(channel=["dir:" + a.io])
    go(a)
    b.reply("runs")
    shutil.rmtree(b.io)
    assert stays(lambda: not os.path.exists(b.io), 2.5) is None


def test_one_driver_closes_and_the_other_goes_on(two):
    a, b = two
    worker = a.start()
    a.ask("a0", "good()")
    a.reply("a0")
    a.send({"type": "close"})
    wait_for(lambda: not a.pairs())
    b.ask("b0", "good()")
    assert b.reply("b0")["eval_results"]["runtime"] == 1.25
    # The next driver there is served, too.
    a.ask("a1", "good()")
    assert stays(lambda: not a.replies("a1") and worker.alive(), 1) is None
    a.send({"type": "handshake"})
    assert a.reply("a1")["eval_results"]["runtime"] == 1.25
    # When all have closed the worker ends.
    b.ask("b1", HOLD)
    wait_for(lambda: len(a.started()) == 4)
    a.send({"type": "close"})
    b.send({"type": "close"})
    assert stays(worker.alive, 0.5) is None
    go(a)
    assert worker.wait(20) == 0
    assert b.reply("b1", 0)["eval_results"]["runtime"] == 1.25
    a.start()
    wait_for(lambda: not os.listdir(a.output) and not os.listdir(b.output), 5)


def test_what_a_driver_that_closed_has_not_read_goes_and_the_others_stay(two):
    a, b = two
    worker = a.start()
    for one in two:
        one.ask("x", "good()")
        one.reply("x")
    a.send({"type": "close"})
    wait_for(lambda: os.path.exists(os.path.join(a.scratch, "zr/pike/closed")))
    worker.kill_group()
    a.start()
    wait_for(lambda: not os.listdir(a.output), 5)
    assert b.reply("x", 0)["eval_results"]["runtime"] == 1.25


def test_a_folder_that_is_not_there_holds_up_its_own_driver_alone(two):
    a, b = two
    a.start()
    b.ask("b0", HOLD)
    a.wait_started()
    # A file where the folder was: nothing can be written or made there.
    shutil.rmtree(b.io)
    open(b.io, "w").close()
    go(a)
    for i in range(3):
        a.ask(f"a{i}", "good()")
        assert a.reply(f"a{i}")["eval_results"]["runtime"] == 1.25
    os.unlink(b.io)
    assert b.reply("b0")["eval_results"]["runtime"] == 1.25


def test_channels_that_cannot_be_served_together(two):
    a, b = two
    for channels, more, words in ((["dir:" + a.io, "dir:" + a.io + "/."], [], "named twice"), (["dir:" + a.io, "amqp"], [], "want dir:FOLDER"),
                                  (["dir:" + a.io, "dir:" + b.io], ["--input-dir=x"], "several channels")):
        r = run(a, *a.argv(channel=channels)[2:], *more)
        assert r.returncode == 2 and words in r.stderr, r.stderr
    r = run(a, "--channel", "dir:" + a.io, "--channel", "dir:" + b.io)
    assert r.returncode == 2 and "dialect pike" in r.stderr


# --- the box takes the GPU ---

def test_a_task_gets_a_gpu_from_the_box(make, tmp_path):
    gpus = FakeGpus(tmp_path / "fake")
    gpus.scenario([1])
    pike = make(settings=f'cuda_library = "{gpus.library}"\n', **{"gpu-lock": "box", "wall-limit": "6s", "max-active-tasks": 3})
    pike.start()
    # Four seconds each, one after the other: the third waits longer than it may run, and its time begins with its GPU. The
    # script's own lock is there, and free.
    code = "import time\nlock(0)\nprint(os.environ['CUDA_VISIBLE_DEVICES'])\ntime.sleep(4)\ngood()"
    for i in range(3):
        pike.ask(i, code, task=i)
    pike.wait_started()
    path = os.path.join(pike.scratch, "gpu_locks", "gpu_0.lock")
    with open(path) as f:
        assert _busy(f)
    for i in range(3):
        got = pike.reply(i, 20)
        assert got["eval_results"]["runtime"] == 1.25 and got["stdout"] == uuid(1) + "\n", got
    begun = sorted(pike.seen(n)["at"] for n in pike.started())
    assert begun[1] - begun[0] >= 2 and begun[2] - begun[1] >= 2
    with open(path) as f:
        wait_for(lambda: not _busy(f), 5)
    # Others that take the lock keep it.
    with open(path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        pike.ask("waits", code)
        assert stays(lambda: len(pike.started()) == 3, 1) is None
    assert pike.reply("waits")["eval_results"]["runtime"] == 1.25


def test_a_host_without_a_gpu_says_so(make, tmp_path):
    gpus = FakeGpus(tmp_path / "fake")
    pike = make(settings=f'cuda_library = "{gpus.library}"\n', **{"gpu-lock": "box"})
    pike.start()
    pike.ask("x", "good()")
    got = pike.reply("x")
    assert got["eval_results"] == {"loaded": False} and "GPU" in got["stderr"]


# --- what operators read ---

def test_lines_of_the_operator(make):
    pike = make(**{"max-active-tasks": 1, "wall-limit": "2s"})
    worker = pike.start()
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes)
    pike.ask("plain-id", "good()")
    pike.reply("plain-id")
    pike.ask("slow", "import time; time.sleep(30)")
    assert pike.reply("slow")["timed_out"]
    pike.ask({"x": [1, None]}, "good()")
    pike.ask("a\nReceived task: forged\x1b[2J\u202e" + 500 * "x", "good()")
    pike.ask(7, "good()", level="a/b")
    wait_for(lambda: len(pike.texts()) == 6)
    pike.send({"type": "close"})
    assert worker.wait(20) == 0
    lines = pike.lines()
    assert lines[:3] == [f"CPU count: {os.cpu_count()}", "Eval worker running...", "Got handshake message"]
    assert lines[3:5] == ["Active task count: 1", "Received task: plain-id, number: 0"]
    assert re.fullmatch(r"Completed task: plain-id, task time: 0\.\d\ds", lines[5])
    assert lines[6:10] == ["Active task count: 1", "Received task: slow, number: 1", "Task slow timed out, killing...", "Task slow killed."]
    assert re.fullmatch(r"Completed task: slow, task time: 2\.\d\ds", lines[10])
    assert 'Received task: {"x": [1, null]}, number: 2' in lines
    # Ids are foreign bytes: no line of their own, no terminal's words, no end.
    hostile = [n for n in lines if "forged" in n]
    assert [n[:14] for n in hostile] == ["Received task:", "Completed task"] and max(map(len, lines)) < 300
    assert hostile[0].startswith(r"Received task: a\x0aReceived task: forged\x1b[2J") and hostile[0].endswith("x..., number: 3")
    assert lines[-2] == "Got close message, closing worker."
    assert re.fullmatch(r"Total worker running time: \d+\.\d\ds", lines[-1])
    assert len(lines) == 3 + 3 * 3 + 2 + 3 + 2 and not set(lines) & set(pike.log().splitlines())


def test_an_operator_who_does_not_read_holds_nothing_up(make):
    pike = make()
    pike.start()
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    pike.daemons[-1].stop()
    worker = subprocess.Popen(pike.argv(), env=pike.env, cwd=pike.dir, stdout=write, stderr=subprocess.DEVNULL)
    try:
        pike.ask("a", "good()")
        assert pike.reply("a")["eval_results"]["runtime"] == 1.25
        os.close(read)
        pike.ask("b", "good()")
        assert pike.reply("b")["eval_results"]["runtime"] == 1.25
    finally:
        os.close(write)
        worker.terminate()
        assert worker.wait(20) == 0


# --- the command line ---

def run(pike, *argv):
    return subprocess.run([os.path.join(BUILD, "zr"), "worker:run:eval", *argv], env=pike.env, cwd=pike.dir, capture_output=True,
                          text=True, timeout=20)


def test_the_original_options(make):
    pike = make(channel=None, dialect=None)
    folders = {f"{n}_dir": os.path.join(pike.dir, n) for n in ("input", "output", "scratch")}
    pike.input, pike.output, pike.scratch = folders.values()
    pike.start(**{"max-active-tasks": None, "max_active_tasks": 3, **folders})
    pike.ask("a", "good()")
    assert pike.reply("a")["eval_results"]["runtime"] == 1.25
    assert not os.path.exists(os.path.join(pike.io, "ready.txt"))


def test_the_original_options_cut_short(make):
    """Although other options begin so, too."""
    pike = make()
    folders = [f"--{o}={pike.dir}/{n}" for o, n in (("in", "input"), ("output_d", "output"), ("s", "scratch"))]
    for tasks in ("--m", "--max", "--max_a", "--max-active-tasks"):
        r = run(pike, *folders, "--a=Hopper", "--eval-script", STUB, tasks, "many")
        assert r.returncode == 2 and "bad value for --max-active-tasks: 'many'" in r.stderr, r.stderr


def test_wrong_calls(make):
    pike = make()
    for argv, words in ((["--dialect", "pike"], "--arch"), (["--input-dir=x"], "--arch"), (["--dialect=x"], "no dialect 'x'"),
                        (["--arch", "A", "--max-active-tasks", "0"], "want 1 to 1024"), (["--arch", "A", "--eval-script", "nix"], "nix"),
                        (["--arch", "A", "--eval-script", STUB, "--wall-limit", "x"], "--wall-limit"),
                        (["--arch", "A", "--eval-script", STUB, "--max-age", "0"], "--max-age"),
                        (["--arch", "A", "--eval-script", STUB, "--task-files", "x"], "--task-files"),
                        (["--arch", "A", "--eval-script", STUB, f"--input-dir={pike.io}/x", f"--output-dir={pike.io}/x/"], "two folders"),
                        (["--arch", "A", "--dialect", "native"], "--dialect pike"), (["--arch", "A", "-w", "2"], "-w"), (["--arch", "A", "--eval-script", STUB, "--gpu-lock", "me"], "--gpu-lock")):
        r = run(pike, *argv)
        assert r.returncode == 2 and words in r.stderr, (argv, r.stderr)


def test_any_environment_is_passed_on(make):
    """Names that are none for a shell, bytes that are no text, more than one; and not what is about the worker itself."""
    pike = make()
    odd = {"BASH_FUNC_f%%": "() { :\n}", "9": "nine", "bytes": os.fsdecode(b"\xff\xfe"), "EMPTY": "", "BIG": 100_000 * "x"}
    pike.env |= {**odd, "SHLVL": "7"}
    pike.start()
    pike.ask("a", "good()")
    assert pike.reply("a")["eval_results"]["loaded"]
    env = pike.seen("task_3-pike_1_0.py")["env"]
    assert {k: env.get(k) for k in odd} == odd
    assert "SHLVL" not in env
    path = os.path.join(pike.scratch, "zr/environ")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_python_that_is_not_there(make):
    """At the start it is said at once; later each task says so, until it is back."""
    pike = make()
    python = os.path.join(pike.dir, "bin/python")
    pike.env["PATH"] = f"{pike.dir}/bin:/usr/sbin"
    os.rename(python, python + ".away")
    r = run(pike, "--arch", "A", "--eval-script", STUB)
    assert r.returncode == 2 and f"there is no program 'python' in PATH ({pike.env['PATH']})" in r.stderr
    os.rename(python + ".away", python)
    pike.start()
    os.rename(python, python + ".away")
    pike.ask("a", "good()")
    answer = pike.reply("a")
    assert answer["eval_results"] == {"loaded": False} and "there is no program 'python' in PATH" in answer["stderr"]
    os.rename(python + ".away", python)
    pike.ask("b", "good()")
    assert pike.reply("b")["eval_results"]["loaded"]


def test_ready_txt(pike):
    with open(os.path.join(pike.io, "ready.txt")) as f:
        assert f.read() == "1"


def test_a_folder_that_is_made_anew(pike):
    os.rmdir(pike.input)
    os.mkdir(pike.input)
    pike.send({"type": "handshake"})
    wait_for(pike.handshakes, 5)
    assert stays(lambda: len(pike.handshakes()) == 1, 0.5) is None


def test_sigterm_finishes_what_runs(pike):
    pike.ask("a", "import time; time.sleep(1); good()")
    pike.wait_started()
    pike.daemons[-1].signal(signal.SIGTERM)
    assert pike.daemons[-1].wait(20) == 0
    assert pike.reply("a", 0)["eval_results"]["runtime"] == 1.25


def test_news_right_after_a_look_does_not_wait_for_the_next_scan():
    """A folder that takes long to read is not read again at once, but soon."""
    pike = Pike(settings='channel_scan = "10s"\n')
    try:
        pike.start()
        for i in range(20000):
            os.close(os.open(f"{pike.input}/other-{i}", os.O_CREAT | os.O_WRONLY))
        since = time.monotonic()
        for i in range(6):
            pike.ask(i, "pass")
            assert pike.reply(i)
        # The next scan was ten seconds away.
        assert time.monotonic() - since < 7
    finally:
        pike.close()
