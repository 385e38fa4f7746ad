# SPDX-License-Identifier: MIT
"""Reads the evaluator's own cases.json."""

import json
import os
import re

CASES_MAX = 200  # scores.json holds 1000 members


class BadSetup(Exception):
    """What is wrong with the evaluator, in one sentence."""


def read_json(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            found = json.load(f)
    except (OSError, ValueError) as e:
        raise BadSetup(f"{name}: {e}") from e
    if not isinstance(found, dict):
        raise BadSetup(f"{name}: is not a JSON object")
    return found


def load_cases(folder):
    """The task, each case with `name`, `args` or `stdin`, and `seconds`."""
    task = read_json(folder, "cases.json")
    cases = task.get("cases")
    if not isinstance(cases, list) or not 0 < len(cases) <= CASES_MAX:
        raise BadSetup(f"cases.json: `cases` must be a list of 1 to {CASES_MAX} cases")
    for i, case in enumerate(cases):
        if not isinstance(case, dict) or not re.fullmatch(r"[\w.-]{1,64}", str(case.get("name")), re.ASCII):
            raise BadSetup(f"cases.json: case {i + 1} has no name of letters, digits, '.', '_' and '-'")
        if "args" not in case and (task.get("function") or "stdin" not in case):
            raise BadSetup(f"cases.json: the case {case['name']!r} has no `args`")
        case.setdefault("seconds", task.get("seconds", 10))
    if len({case["name"] for case in cases}) != len(cases):
        raise BadSetup("cases.json: two cases have the same name")
    return task
