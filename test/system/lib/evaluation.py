# SPDX-License-Identifier: MIT
"""Runs an evaluator's commands as the contract of zr-evaluator(5) says, without broker, database or box."""
import ast
import json
import os
import re
import shlex
import signal
import subprocess
import threading

from lib.services import ROOT

BIN = os.path.join(ROOT, "scripts/bin")
EXAMPLES = os.path.join(ROOT, "examples")
PROGRESS_FD = 3


def read_conf(path):
    """The simple half of libconfuse that the shipped files use: key = "text", number, word, or {"list"}."""
    values = {}
    with open(path) as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            key, value = re.fullmatch(r'(\w+) = ("[^"]*"|[\w.]+|\{.*\})\n', line).groups()
            values[key] = list(ast.literal_eval(value)) if value[0] == "{" else value.strip('"')
    return values


class Phase:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


class Evaluation:
    """One evaluation of `submission` (a folder) in `folder`; run() has its phases by name in .phases.

    `evaluator` is the name of a shipped one, or a path. Without walls: what `reference` hides is open here.
    """

    def __init__(self, evaluator, submission, folder, args=None, env=None):
        self.path = os.path.join(BIN, evaluator)
        self.conf = read_conf(self.path + "/evaluator.conf") if os.path.isdir(self.path) else {"run": self.path}
        self.submission = str(submission)
        self.work, self.output = os.path.join(folder, "work"), os.path.join(folder, "output")
        os.makedirs(self.work)
        os.makedirs(self.output)
        self.args = args
        self.extra_env = env or {}
        self.phases, self.progress = {}, []

    def environment(self):
        given = dict(item.split("=", 1) for item in self.conf.get("env", []))
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": self.work,
                "TMPDIR": self.work, "LANG": "C.UTF-8", "ZR_SUBMISSION": self.submission, "ZR_OUTPUT": self.output,
                "ZR_PROGRESS_FD": str(PROGRESS_FD), "ZR_EVALUATION_ID": "1", "ZR_ATTEMPT": "1",
                "ZR_EVALUATOR": self.path if os.path.isdir(self.path) else BIN, **given, **self.extra_env}

    def command(self, phase):
        words = shlex.split(self.conf[phase])
        if self.args is not None:
            words += self.args
        elif phase == "run":
            words += shlex.split(self.conf.get("args", ""))
        return [os.path.join(self.path, words[0]), *words[1:], self.submission]

    def start(self, phase):
        """The process of a phase, with stdout and stderr as pipes and its progress read into .progress by a thread."""
        reader, writer = os.pipe()

        def place_fd():
            os.dup2(writer, PROGRESS_FD)

        process = subprocess.Popen(self.command(phase), cwd=self.work, env=self.environment(), text=True,
                                   errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, preexec_fn=place_fd, pass_fds=[PROGRESS_FD],
                                   start_new_session=True)
        os.close(writer)
        self.reader = threading.Thread(target=self._read_progress, args=(reader,))
        self.reader.start()
        return process

    def _read_progress(self, fd):
        with open(fd, errors="replace") as f:
            for line in f:
                self.progress.append(json.loads(line))

    def finish(self, phase, process, timeout=100):
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            # What a box does at the end of a job, so that nothing outlives a test.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.reader.join()
        self.phases[phase] = Phase(process.returncode, out, err)
        return self.phases[phase]

    def run(self):
        for phase in ("prepare", "run", "score"):
            if phase == "score" and phase in self.conf:
                self._judge_apart()
            if phase in self.conf and self.finish(phase, self.start(phase)).code != 0:
                break
        return self

    def _judge_apart(self):
        """As in a sandbox: `score` has a new working folder and output, and what `run` left is elsewhere."""
        self.extra_env = {**self.extra_env, "ZR_RUN_OUTPUT": self.output}
        self.work, self.output = self.work + "-score", self.output + "-score"
        os.mkdir(self.work)
        os.mkdir(self.output)

    @property
    def last(self):
        return list(self.phases.values())[-1]

    @property
    def code(self):
        return self.last.code

    @property
    def err(self):
        return self.last.err

    @property
    def scores(self):
        path = os.path.join(self.output, "scores.json")
        if not os.path.exists(path):
            return None
        with open(path) as f:
            return json.load(f, parse_constant=refuse)


def refuse(word):
    raise AssertionError(f"scores.json has {word}")
