# SPDX-License-Identifier: MIT
"""A daemon is told to end just when it passes a failpoint, each of the sources: it ends well, and gives nothing back."""
import contextlib
import json

import faults
from cuts import until

# Only keepers pass these, and a keeper is not told to end but by whoever takes its host down.
OF_KEEPERS = ("cmd/zr-box/", "lib/exec/", "lib/transfer/seal.c")


def spec_of(name, path):
    """Others pass this one as well."""
    return ("zr-eval/" if path == "lib/base/fd.c" else "") + name + ":term"


def drain(t, spec, seed):
    w, point = t.world, faults.Failpoint(t.world, spec)

    def act(f, _stream):
        if not point.wait(30, f.trouble):
            return [f"the failpoint was passed {point.counts[0]} times and never hit"]
        if not spec.startswith("fetch.") and not until(lambda: w.ends, 30):
            return ["30 s after it was told to end the daemon is still there"]
        return [f"{name} ended with status {status}" for name, status in w.ends if status]
    t.scenario(f"drain/{spec}", seed, act, point, 0.1, {"quick": 5, "short": 3, "fails": 1})


@contextlib.contextmanager
def burying(w):
    """A request that goes back is buried: it is among what is left."""
    w.services.rabbitmqctl("set_policy", "-p", "sb.torture", "--apply-to", "queues", "bury", "^zr[.](eval|host)[.]",
                           json.dumps({"delivery-limit": 0}))
    yield
    w.services.rabbitmqctl("clear_policy", "-p", "sb.torture", "bury")


def one(t, spec, seed):
    with burying(t.world):
        drain(t, spec, seed)


def all_points(t, _name, seed):
    with burying(t.world):
        for name, actions, path in faults.points():
            if "term" in actions and not path.startswith(OF_KEEPERS):
                drain(t, spec_of(name, path), seed)


SCENARIOS = {"drain/points": all_points}
