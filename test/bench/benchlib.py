# SPDX-License-Identifier: MIT
"""What the benchmarks share: private servers, a sandbox, requests by hand, one JSON line per figure."""
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../system"))

from lib.sandbox import Sandbox  # noqa: E402
from lib.services import Services  # noqa: E402


def say(text):
    print(text, file=sys.stderr, flush=True)


def figure(bench, value, unit, peer, peer_value, ratio, **more):
    print(json.dumps({"bench": bench, "value": round(value, 3), "unit": unit, "peer": peer,
                      "peer_value": None if peer_value is None else round(peer_value, 3),
                      "ratio": None if ratio is None else round(ratio, 3), **more}), flush=True)


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))]


def median(values):
    return statistics.median(values)


@contextlib.contextmanager
def site():
    """A prepared sandbox on servers of our own."""
    folder = tempfile.mkdtemp(prefix="zr-bench.")
    services = Services(os.path.join(folder, "services"))
    try:
        services.up()
        box = Sandbox(services, "bench")
        try:
            yield box.prepare()
        finally:
            box.close(None)
    finally:
        services.down()
        shutil.rmtree(folder, ignore_errors=True)


def now_text():
    t = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + f".{int(t % 1 * 1e6):06d}Z"


class Requests:
    """Requests for one submission, published by hand as another program would."""

    def __init__(self, box, evaluator, script):
        box.evaluator(evaluator, script)
        box.zr("challenges:add", evaluator, "--evaluator", evaluator)
        path = os.path.dirname(box.file(f"{evaluator}/answer", "x"))
        self.submission = box.zr_id("submissions:create", evaluator, path, "--author", "bench")
        row = next(s for s in box.zr_json("submissions") if str(s["id"]) == str(self.submission))
        self.digest, self.evaluator = row["digest"], evaluator
        self.source = "file://" + os.path.join(box.state, "submissions", str(self.submission))

    def body(self, evaluation):
        return json.dumps({
            "zr": "1.0", "type": "request", "id": str(uuid.uuid4()), "evaluation": str(evaluation),
            "submission": {"id": str(self.submission), "digest": self.digest, "source": self.source},
            "evaluator": self.evaluator, "args": [], "attempt": 1, "priority": "normal", "created_at": now_text()})


class Ends:
    """A private queue of the terminal events, read by an independent client."""

    def __init__(self, box):
        self.channel = box.amqp(heartbeat=0).channel()
        self.channel.basic_qos(prefetch_count=1000)
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        for kind in ("completed", "failed", "canceled"):
            self.channel.queue_bind(self.queue, "zr", f"event.{kind}.#")

    def there(self):
        """How many lie in the queue."""
        return self.channel.queue_declare(self.queue, passive=True).method.message_count

    def count(self, n, timeout=600):
        """How many lie there once they are n, and when. The broker is asked now and then, so that the measuring costs next to
        nothing. Not to be mixed with wait(), which takes some in advance."""
        deadline = time.monotonic() + timeout
        while (there := self.there()) < n:
            assert time.monotonic() < deadline, f"only {there} of {n} ends came"
            time.sleep(0.01)
        return there, time.monotonic()

    def take(self):
        """All that lie there."""
        seen = []
        while (got := self.channel.basic_get(self.queue, auto_ack=True))[0]:
            seen.append(json.loads(got[2]))
        return seen

    def wait(self, n, timeout=600):
        """The next n events, and when the last came."""
        seen = []
        for _method, _properties, body in self.channel.consume(self.queue, auto_ack=True, inactivity_timeout=timeout):
            assert body is not None, f"only {len(seen)} of {n} ends came"
            seen.append(json.loads(body))
            if len(seen) == n:
                break
        return seen, time.monotonic()


def publish(box, bodies, key="eval.pool.default"):
    """Durable, confirmed as a whole."""
    import pika
    channel = box.amqp(heartbeat=0).channel()
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish("zr", key, body, pika.BasicProperties(delivery_mode=2, content_type="application/json"))


def cpu_msec(pids):
    """What they have run, by the scheduler's clock: that of /proc/PID/stat ticks every 10 ms, and a tick is charged to whoever
    runs just then. Of programs without threads."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e6


def rss_mb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def tree(pid):
    """The process and its descendants."""
    pids = [pid]
    for p in pids:
        out = subprocess.run(["pgrep", "-P", str(p)], capture_output=True, text=True).stdout
        pids += [int(x) for x in out.split()]
    return pids


def build(folder, name="storm"):
    """test/bench/<name>.c, compiled into a folder."""
    path = os.path.join(folder, name)
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static", os.path.join(HERE, name + ".c"), "-o", path,
                    "-pthread"], check=True)
    return path
