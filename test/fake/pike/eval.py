# SPDX-License-Identifier: MIT
"""Stands for a GPU evaluation script: the candidate's code is executed here and says what comes of it.

It sees `args`, result(**llm) which writes the output file, and lock(i), which takes a GPU's lock file.
"""
import argparse
import fcntl
import json
import os
import sys
import time

parser = argparse.ArgumentParser()
for option in ("level", "task", "code-path", "output-path", "gpu-locks-dir", "mode"):
    parser.add_argument("--" + option, required=True)
args = parser.parse_args()

seen = os.environ.get("STUB_SEEN")
if seen:
    # Whole or not there.
    path = os.path.join(seen, os.path.basename(args.code_path))
    with open(path + ".new", "w") as f:
        json.dump({"argv": sys.argv, "called": sys.orig_argv[0], "env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid(), "at": time.time(),
                   "fds": sorted(os.listdir("/proc/self/fd"))}, f)
    os.rename(path + ".new", path)


def result(**llm):
    with open(args.output_path, "w") as out:
        json.dump({"baseline": {"loaded": True, "correct": True}, "llm": llm}, out)


def good():
    result(loaded=True, correct=True, max_diff=[0.0, 1e-05], runtime=1.25)


def lock(index):
    fd = os.open(os.path.join(args.gpu_locks_dir, f"gpu_{index}.lock"), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            time.sleep(0.05)


with open(args.code_path) as f:
    code = f.read()
exec(compile(code, args.code_path, "exec"))
