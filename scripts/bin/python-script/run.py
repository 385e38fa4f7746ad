#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Evaluator, phase run: answers of a submission to all cases, into outcomes.json. Judges nothing.

Exit status: 0 asked, 2 this evaluator is set up wrongly, 3 the submission cannot be run,
4 it kept its answers from being written.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import child  # noqa: E402
from cases import BadSetup, load_cases  # noqa: E402


class BadSubmission(Exception):
    """Why it cannot be run, in one sentence."""


def progress(done, total, text):
    with contextlib.suppress(OSError, KeyError, ValueError):  # nobody listens: no reason to fail
        line = json.dumps({"done": done, "total": total, "text": text})
        os.write(int(os.environ["ZR_PROGRESS_FD"]), line.encode() + b"\n")


def find_program(submission, function):
    """The submission's one file to run, and whether the function in it is to be called."""
    names = ["solution.py", "main.py"] if function else ["main.py"]
    found = [n for n in names if os.path.lexists(os.path.join(submission, n))]
    if not found:
        raise BadSubmission(f"the submission has no file {' or '.join(names)}")
    if len(found) > 1:
        raise BadSubmission("the submission has both solution.py and main.py; leave one of them out")
    path = os.path.join(submission, found[0])
    source = child.read_file(path)
    if source is None:
        raise BadSubmission(f"{found[0]} is not a regular file of at most {child.FILE_MAX} bytes")
    try:
        compile(source, found[0], "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise BadSubmission(f"{found[0]} is not Python: {child.shown(str(e))}") from None
    return path, found[0] == "solution.py"


def answer(case, path, function, folder):
    """What the submission makes of one case: {"result"} or {"stdout"} or, without an answer, {"error"}."""
    result = os.path.join(folder, "result")
    if function:
        argv = [os.path.join(HERE, "call.py"), path, function, result]
        stdin = json.dumps(case["args"])
    else:
        argv = ["/usr/bin/python3", "-B", path, *case.get("argv", [])]
        stdin = case["stdin"] if "stdin" in case else json.dumps(case["args"]) + "\n"
    status = child.run(argv, folder, stdin, case["seconds"])
    if status != 0:
        said = child.last_line(folder)
        return {"error": child.ending(status, case["seconds"]) + (f": {said}" if said else "")}
    raw = child.read_file(result if function else os.path.join(folder, "stdout"))
    if raw is None:
        return {"error": "ended without a result" if function else "its output cannot be read"}
    if not function:
        return {"stdout": raw.decode("utf-8", "replace")}
    try:
        return {"result": json.loads(raw)}
    except (ValueError, RecursionError):
        return {"error": "its result is not JSON"}


def write_outcomes(outcomes):
    """By rename. The submission may have put things in the way; then it has no answers."""
    folder = os.environ["ZR_OUTPUT"]
    fd, path = tempfile.mkstemp(dir=folder)
    with open(fd, "w", encoding="ascii") as f:
        json.dump(outcomes, f)
    os.rename(path, os.path.join(folder, "outcomes.json"))


def main(submission):
    task = load_cases(HERE)
    path, is_function = find_program(submission, task.get("function"))
    outcomes = {}
    for i, case in enumerate(task["cases"]):
        progress(i, len(task["cases"]), case["name"])
        folder = tempfile.mkdtemp(dir=os.getcwd())
        outcomes[case["name"]] = answer(case, path, task["function"] if is_function else None, folder)
        print(f"{case['name']}: {outcomes[case['name']].get('error', 'answered')}")
        shutil.rmtree(folder, ignore_errors=True)
    try:
        write_outcomes(outcomes)
    except OSError as e:
        print(f"the answers cannot be written, the submission left no room: {e.strerror}", file=sys.stderr)
        return 4
    progress(len(outcomes), len(outcomes), "done")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[-1]))
    except BadSetup as e:
        print(f"the evaluator's cases are broken: {e}", file=sys.stderr)
        sys.exit(2)
    except BadSubmission as e:
        print(e, file=sys.stderr)
        sys.exit(3)
