# SPDX-License-Identifier: MIT
"""Clients of the dialect pike, each written from the contract alone and as strict, or as careless, as the ones that are in use."""
import json
import math
import os
import time
import urllib.request
import uuid


class DiskChannel:
    """One end of a pair of folders: empties what it writes to, sends text first, takes the oldest word first, looks once a second."""

    def __init__(self, send_dir, receive_dir):
        self.send_dir, self.receive_dir, self.queue = send_dir, receive_dir, []
        for folder in (send_dir, receive_dir):
            os.makedirs(folder, exist_ok=True)
        for name in os.listdir(send_dir):
            path = os.path.join(send_dir, name)
            if os.path.isfile(path):
                os.unlink(path)

    def send(self, message):
        stem = os.path.join(self.send_dir, str(uuid.uuid4()))
        with open(stem + ".json", "w", encoding="utf-8") as f:
            json.dump(message, f)
        open(stem + ".done", "w").close()

    def receive_now(self):
        """The next message, or None."""
        if not self.queue:
            found = [os.path.join(self.receive_dir, n) for n in os.listdir(self.receive_dir) if n.endswith(".done")]
            self.queue = sorted(found, key=os.path.getmtime)
        if not self.queue:
            return None
        stem = self.queue.pop(0)[:-len(".done")]
        with open(stem + ".json", encoding="utf-8") as f:
            message = json.load(f)
        os.unlink(stem + ".json")
        os.unlink(stem + ".done")
        return message

    def receive(self, timeout=60):
        until = time.monotonic() + timeout
        while (message := self.receive_now()) is None:
            assert time.monotonic() < until, "no message came"
            time.sleep(1.0)
        return message


class DiskChannelClient:
    """Over HTTP: compares the text of /ready, asks for a result once a second, takes any 2xx for success."""

    def __init__(self, port):
        self.base = f"http://localhost:{port}"

    def _get(self, path):
        with urllib.request.urlopen(self.base + path, timeout=10) as r:
            return r.read().decode()

    def wait_ready(self, timeout=60):
        until = time.monotonic() + timeout
        while self._get("/ready") != "true":
            assert time.monotonic() < until, "the worker is never ready"
            time.sleep(1.0)

    def submit(self, **fields):
        request = urllib.request.Request(self.base + "/submit", json.dumps(fields).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as r:
            assert 200 <= r.status < 300
            return r.read().decode()

    def result(self, ident, timeout=60):
        until = time.monotonic() + timeout
        while (message := json.loads(self._get("/poll?id=" + ident))) is None:
            assert time.monotonic() < until, f"no result for {ident}"
            time.sleep(1.0)
        return message


def read_as_tree_search(results):
    """("correct", runtime, max_diff), ("wrong", max_diff) or ("error", text): a reader that trusts what it is sent."""
    r = results["eval_results"]
    if "runtime" in r:
        return "correct", r["runtime"], max(r["max_diff"], default=0.0)
    if "correct" in r:
        assert r["correct"] is False
        return "wrong", max(r["max_diff"], default=0.0)
    return "error", "timed out" if results["timed_out"] else (results["stdout"] or "") + (results["stderr"] or "")


def read_as_evolution(results):
    """The score: the inverse of the run time, 0 without one."""
    runtime = results["eval_results"].get("runtime")
    return 0.0 if runtime is None or math.isnan(runtime) else 1 / runtime
