#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Calls one function of a submission: call.py FILE FUNCTION RESULT, the arguments as JSON on stdin.

Runs in a process of its own, which the submission may do with as it likes: what is in RESULT at
the end is what it answered, right or wrong.
"""

import importlib.util
import json
import os
import sys


def main(path, name, result):
    args = json.load(sys.stdin)
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [path]
    spec = importlib.util.spec_from_file_location("solution", path)
    sys.modules["solution"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        sys.exit(f"{os.path.basename(path)} does not define the function {name}()")
    text = json.dumps(function(*args), allow_nan=False)
    with open(result, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
