# SPDX-License-Identifier: MIT
"""The drivers of the dialect pike, as their contract has them, against a worker, in the folder and through the gateway; and the
GPU's lock files, which they share with workers that are not ours."""
import fcntl
import json
import os
import subprocess
import sys

import pytest

from lib.fakegpu import FakeGpus, uuid
from lib.pike import Pike
from lib.pikedrivers import DiskChannel, DiskChannelClient, read_as_evolution, read_as_tree_search
from lib.wait import wait_for
from test_gateway import Gateway

# What a candidate may come to, and what drivers make of it.
OUTCOMES = {
    "right": ("good()", ("correct", 1.25, 1e-05), 0.8),
    "whole": ("result(loaded=True, correct=True, max_diff=[0, 2], runtime=4)", ("correct", 4.0, 2.0), 0.25),
    "no-diff": ("result(loaded=True, correct=True, max_diff=[], runtime=2.0)", ("correct", 2.0, 0.0), 0.5),
    "exit": ("good(); sys.exit(3)", ("correct", 1.25, 1e-05), 0.8),
    "wrong": ("result(loaded=True, correct=False, max_diff=[0.5, 7])", ("wrong", 7.0), 0),
    "untimed": ("result(loaded=True, correct=True, max_diff=[0.5])", ("error", ""), 0),
    "odd-diff": ("result(loaded=True, correct=True, max_diff=['x'], runtime=1.0)", ("error", ""), 0),
    "not-loaded": ("result(loaded=False); print('no')", ("error", "no\n"), 0),
    "crash": ("sys.stderr.write('boom\\n'); os.abort()", ("error", "boom\n"), 0),
    "nothing": ("pass", ("error", ""), 0),
    "slow": ("time.sleep(30)", ("error", "timed out"), 0),
}


@pytest.fixture
def pike():
    p = Pike(**{"max-active-tasks": 4, "wall-limit": "3s"})
    yield p
    p.close()


def check_outcomes(results):
    """By name; both readers take all of them."""
    assert {name: read_as_tree_search(r) for name, r in results.items()} == {name: want for name, (_c, want, _s) in OUTCOMES.items()}
    assert {name: read_as_evolution(r) for name, r in results.items()} == {name: score for name, (_c, _w, score) in OUTCOMES.items()}


def test_a_driver_in_the_folder(pike):
    worker = pike.start()
    driver = DiskChannel(pike.input, pike.output)
    driver.send({"type": "handshake"})
    assert driver.receive() == {"type": "handshake"}
    for i, (name, (code, _want, _score)) in enumerate(OUTCOMES.items()):
        driver.send({"id": name, "type": "eval", "level": "3-pike", "task": i, "code": code, "mode": "eager"})
    results = {}
    while len(results) < len(OUTCOMES):
        message = driver.receive()
        assert message["type"] == "result" and message["id"] not in results
        results[message["id"]] = message["results"]
    check_outcomes(results)
    driver.send({"type": "close"})
    assert worker.wait(20) == 0 and driver.receive_now() is None


def test_drivers_over_http(pike):
    pike.start()
    client = DiskChannelClient(Gateway(pike).port)
    client.wait_ready()
    idents = {name: client.submit(code=code, level="3-pike", task=i) for i, (name, (code, _w, _s)) in enumerate(OUTCOMES.items())}
    check_outcomes({name: client.result(ident)["results"] for name, ident in idents.items()})


def test_baselines_in_every_mode(pike):
    """Each task of a level in each mode, as the drivers of baselines ask; the script knows the mode and refuses another."""
    pike.start()
    client = DiskChannelClient(Gateway(pike).port)
    client.wait_ready()
    code = "assert args.mode in ('eager', 'compile', 'tensorrt'), args.mode\nresult(loaded=True, correct=True, max_diff=[0.0], runtime=float(args.task))"
    idents = {(task, mode): client.submit(code=code, level="3-metr", task=task, mode=mode)
              for task in (1, 2, 3) for mode in ("eager", "compile", "tensorrt", "fast")}
    for (task, mode), ident in idents.items():
        got = read_as_tree_search(client.result(ident)["results"])
        assert got == ("correct", float(task), 0.0) if mode != "fast" else got[0] == "error" and "AssertionError: fast" in got[1]


# --- the locks ---

# As the script has it: each GPU in turn, once a while, until one is free; held to its end. The window is that of the timing.
WINDOW = """
import fcntl, time
def take():
    while True:
        for i in range({gpus}):
            fd = os.open(os.path.join(args.gpu_locks_dir, f"gpu_{{i}}.lock"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return i
            except BlockingIOError:
                os.close(fd)
        time.sleep(0.02)
index = take()
gpu = os.environ.get("CUDA_VISIBLE_DEVICES") or str(index)
begin = time.monotonic_ns()
time.sleep(0.1)
print(json.dumps([gpu, begin, time.monotonic_ns()]))
good()
"""
# A worker that is not ours takes the same files, for as long as it has a window.
OTHER = """
import fcntl, json, os, sys, time
out = []
while not os.path.exists(sys.argv[2]):
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        begin = time.monotonic_ns()
        time.sleep(0.05)
        out.append([sys.argv[3], begin, time.monotonic_ns()])
        print("has it" if len(out) == 1 else "", file=sys.stderr, flush=True)
    except BlockingIOError:
        pass
    os.close(fd)
    time.sleep(0.03)
print(json.dumps(out))
"""


@pytest.mark.parametrize("who", ["script", "box"])
def test_windows_of_two_tasks_on_one_gpu_never_overlap(tmp_path, who):
    gpus = FakeGpus(tmp_path / "fake")
    gpus.scenario([1, 2])
    names = {"script": ["0", "1"], "box": [uuid(1), uuid(2)]}[who]
    pike = Pike(settings=f'cuda_library = "{gpus.library}"\n', **{"gpu-lock": who, "max-active-tasks": 4})
    other = None
    try:
        pike.start()
        locks = os.path.join(pike.scratch, "gpu_locks")
        other = subprocess.Popen([sys.executable, "-c", OTHER, os.path.join(locks, "gpu_0.lock"), os.path.join(pike.dir, "stop"), names[0]],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert other.stderr.readline() == "has it\n"
        for i in range(16):
            pike.ask(i, WINDOW.format(gpus=2 if who == "script" else 1), task=i)
        wait_for(lambda: len(pike.texts()) >= 8, 60)
        inodes = {n: os.stat(os.path.join(locks, n)).st_ino for n in os.listdir(locks)}
        wait_for(lambda: len(pike.texts()) == 16, 60)
        open(os.path.join(pike.dir, "stop"), "w").close()
        others = json.loads(other.communicate(timeout=20)[0])
        windows = [json.loads(pike.reply(i)["stdout"]) for i in range(16)] + others
        assert len(others) > 1 and {w[0] for w in windows} == set(names)
        for name in names:
            spans = sorted(w[1:] for w in windows if w[0] == name)
            assert len(spans) > 2 and all(a[1] <= b[0] for a, b in zip(spans, spans[1:])), (name, spans)
        # Two GPUs were at work at once, and nobody has put another file in the place of a lock.
        first, second = ([w for w in windows if w[0] == n] for n in names)
        assert any(a[1] < b[2] and b[1] < a[2] for a in first for b in second)
        assert {n: os.stat(os.path.join(locks, n)).st_ino for n in os.listdir(locks)} == inodes
        assert set(inodes) == {"gpu_0.lock", "gpu_1.lock"} and all(not os.path.getsize(os.path.join(locks, n)) for n in inodes)
    finally:
        if other:
            other.kill()
            other.wait()
        pike.close()


def test_a_lock_that_another_worker_holds_is_waited_for(pike):
    pike.start()
    path = os.path.join(pike.scratch, "gpu_locks", "gpu_0.lock")
    with open(path, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        pike.ask("waits", WINDOW.format(gpus=1))
        pike.wait_started()
        assert not pike.replies("waits")
    assert read_as_tree_search(pike.reply("waits"))[0] == "correct"
