#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Evaluator: runs the tests that a configuration names. See the bin folder's README.

Exit status: 0 all were run, passed or not, 2 this evaluator is set up wrongly, 3 the configuration is refused,
77 this host cannot read YAML.
"""

import contextlib
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import child  # noqa: E402
from reading import BadConfig, NoYaml, assemble, read_config  # noqa: E402


def progress(done, total, text):
    with contextlib.suppress(OSError, KeyError, ValueError):  # nobody listens: no reason to fail
        line = json.dumps({"done": done, "total": total, "text": text})
        os.write(int(os.environ["ZR_PROGRESS_FD"]), line.encode() + b"\n")


def value_of(folder):
    """The number in the last line that a test printed, {"value": 1.5}, or None."""
    text = (child.read_file(os.path.join(folder, "stdout")) or b"").decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError, OverflowError):
        value = float(json.loads(text.strip().rpartition("\n")[2])["value"])
        return value if math.isfinite(value) else None
    return None


def run_once(test, run):
    """One run: {"seconds"}, "value" where it printed one, and "why" where it did not pass."""
    folder = tempfile.mkdtemp(dir=os.getcwd())
    env = {"ZR_EVALUATOR": HERE, "ZR_SUBMISSION": sys.argv[-1], "ZR_TEST_RUN": str(run)}
    began = time.monotonic()
    status = child.run([os.path.join(HERE, test["program"])], folder, json.dumps(test["parameters"]), test["timeout"], env)
    found = {"seconds": time.monotonic() - began, "timed_out": status is None}
    if (value := value_of(folder)) is not None:
        found["value"] = value
    if status != 0:
        said = child.last_line(folder)
        found["why"] = child.ending(status, test["timeout"]) + (f": {said}" if said else "")
    shutil.rmtree(folder, ignore_errors=True)
    return found


def summary(test, found):
    """What scores.json has of a test. It passed if all its runs did."""
    failed = [f for f in found if "why" in f]
    outcome = "passed" if not failed else "time-out" if any(f["timed_out"] for f in failed) else "failed"
    result = {"outcome": outcome, "runs": len(found), "passed": len(found) - len(failed),
              "median_seconds": statistics.median(f["seconds"] for f in found)}
    if values := [f["value"] for f in found if "value" in f]:
        result |= {"median": statistics.median(values), "least": min(values), "most": max(values)}
    if failed:
        result["why"] = failed[0]["why"]
    return result


def evaluate(tests):
    total = sum(t["runs"] for t in tests)
    done, results, log = 0, {}, []
    for test in tests:
        found = []
        for run in range(1, test["runs"] + 1):
            progress(done, total, f"{test['name']}, run {run} of {test['runs']}")
            found.append(run_once(test, run))
            done += 1
        results[test["name"]] = summary(test, found)
        log.append({**test, "results": found})
        print(f"{test['name']}: {results[test['name']]['outcome']}", results[test["name"]].get("why", ""))
    progress(done, total, "done")
    return results, log


def write(name, value):
    with open(os.path.join(os.environ["ZR_OUTPUT"], name), "w", encoding="ascii") as f:
        json.dump(value, f, allow_nan=False)


def main(submission):
    with open(os.path.join(HERE, "catalogue.json"), encoding="utf-8") as f:
        catalogue = json.load(f)
    try:
        name, config = read_config(submission)
        tests = assemble(config, catalogue)
    except BadConfig as e:
        print(e, file=sys.stderr)
        return 3
    except NoYaml as e:
        print(e, file=sys.stderr)
        return 77
    print(f"{name}: {len(tests)} tests, {sum(t['runs'] for t in tests)} runs")
    results, log = evaluate(tests)
    write("runs.json", log)
    passed = sum(r["outcome"] == "passed" for r in results.values())
    write("scores.json", {"score": passed / len(results), "passed": passed, "total": len(results), "tests": results})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))
