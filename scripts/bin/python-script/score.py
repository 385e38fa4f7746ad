#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Evaluator, phase score: compares the answers with what is expected. Nothing of the submission runs here.

Exit status: 0 scored, 2 this evaluator is set up wrongly, 3 there are no answers.
"""

import importlib.util
import json
import math
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import child  # noqa: E402
from cases import BadSetup, load_cases, read_json  # noqa: E402
from equal import equal  # noqa: E402

ANSWERS_MAX = 256 << 20


def lines(text):
    return [line.rstrip() for line in text.rstrip().split("\n")]


def compare(case, answer, expected):
    """The judge of evaluators that bring none: all or nothing."""
    if "stdout" in expected:
        return "stdout" in answer and lines(answer["stdout"]) == lines(expected["stdout"])
    got = answer.get("result")
    if "stdout" in answer:  # a program's result is what it prints
        got = json.loads(answer["stdout"])
    return equal(expected["result"], got, expected.get("tolerance", 0))


def load_judge():
    path = os.path.join(HERE, "reference/judge.py")
    if not os.path.exists(path):
        return compare
    spec = importlib.util.spec_from_file_location("judge", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.judge


def load_answers():
    """What `run` left; the submission may have written it itself, so it is believed in nothing but its answers."""
    path = os.path.join(os.environ["ZR_RUN_OUTPUT"], "outcomes.json")
    raw = child.read_file(path, ANSWERS_MAX)
    try:
        found = json.loads(raw or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def judge_case(judge, case, answer, expected):
    """(points from 0 to 1, why not all)."""
    if not isinstance(answer, dict) or not isinstance(answer.get("stdout", ""), str):
        return 0.0, "no answer"
    if "result" not in answer and "stdout" not in answer:
        said = answer.get("error")
        return 0.0, child.shown(said, 300) if isinstance(said, str) else "no answer"
    try:
        points = float(judge(case, answer, expected))
    except Exception as e:  # the judge works on foreign values
        return 0.0, "cannot be judged: " + child.shown(f"{type(e).__name__}: {e}")
    if not 0 <= points <= 1:
        raise BadSetup(f"judge.py gave {points} for {case['name']!r}, which is not in 0 to 1")
    return points, "" if points == 1 else "wrong" if points == 0 else "partly right"


def compute(task, expected, answers):
    judge = load_judge()
    cases, weights = {}, 0.0
    for case in task["cases"]:
        name = case["name"]
        want = expected.get(name)
        if not isinstance(want, dict):
            raise BadSetup(f"expected.json: nothing is expected for {name!r}")
        points, why = judge_case(judge, case, answers.get(name), want)
        cases[name] = {"score": points, **({"why": why} if why else {})}
        weights += want.get("weight", 1)
        print(f"{name}: {points:g} {why}")
    gained = math.fsum(c["score"] * expected[n].get("weight", 1) for n, c in cases.items())
    passed = sum(c["score"] == 1 for c in cases.values())
    return {"score": gained / weights, "passed": passed, "total": len(cases), "cases": cases}


def main():
    task = load_cases(HERE)
    expected = read_json(HERE, "reference/expected.json")
    answers = load_answers()
    if answers is None:
        print("the submission destroyed its answers: outcomes.json is not what `run` writes", file=sys.stderr)
        return 3
    scores = compute(task, expected, answers)
    with open(os.path.join(os.environ["ZR_OUTPUT"], "scores.json"), "w", encoding="ascii") as f:
        json.dump(scores, f, allow_nan=False)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadSetup as e:
        print(f"the evaluator's reference data is broken: {e}", file=sys.stderr)
        sys.exit(2)
