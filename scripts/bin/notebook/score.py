#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Evaluator, phase score: compares answers.json with what is expected. Nothing of the submission runs here.

Exit status: 0 scored, 3 there are no answers.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import child  # noqa: E402
from equal import equal  # noqa: E402


def load_answers():
    raw = child.read_file(os.path.join(os.environ["ZR_RUN_OUTPUT"], "answers.json"))
    try:
        found = json.loads(raw or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def judge(expected, answers):
    found = {}
    for name, want in expected.items():
        right = name in answers and equal(want["result"], answers[name], want.get("tolerance", 0))
        found[name] = "right" if right else "wrong" if name in answers else "missing"
        print(f"{name}: {found[name]}")
    return found


def main():
    with open(os.path.join(HERE, "reference/expected.json"), encoding="utf-8") as f:
        expected = json.load(f)
    answers = load_answers()
    if answers is None:
        print("answers.json is not a JSON object of at most 1 MB", file=sys.stderr)
        return 3
    found = judge(expected, answers)
    weights = {name: want.get("weight", 1) for name, want in expected.items()}
    gained = sum(weights[name] for name, verdict in found.items() if verdict == "right")
    scores = {"score": gained / sum(weights.values()), "right": list(found.values()).count("right"),
              "total": len(found), "answers": found}
    with open(os.path.join(os.environ["ZR_OUTPUT"], "scores.json"), "w", encoding="ascii") as f:
        json.dump(scores, f)
    return 0


if __name__ == "__main__":
    sys.exit(main())
