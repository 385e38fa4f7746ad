# SPDX-License-Identifier: MIT
"""One set of private servers, driven by scripts/dev."""
import os
import subprocess

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
DEV = os.path.join(ROOT, "scripts/dev")
BUILD = os.path.realpath(os.environ.get("ZR_BUILD", os.path.join(ROOT, "build")))


def parse_env(lines):
    """The environment that `eval` of scripts/dev's lines makes, as a real shell makes it."""
    script = lines + "\nenv -0"
    out = subprocess.run(["bash", "-c", script], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                         env={"PATH": os.environ["PATH"]}).stdout
    pairs = (item.split("=", 1) for item in out.decode().split("\0") if "=" in item)
    return {k: v for k, v in pairs if k not in ("PWD", "SHLVL", "_")}


class Services:
    NAMES = ("rabbitmq", "postgres", "sshd")

    def __init__(self, folder):
        self.dir = str(folder)

    def dev(self, command, *args, check=True, timeout=150, **kw):
        r = subprocess.run([DEV, command, self.dir, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=timeout, **kw)
        assert not check or r.returncode == 0, f"scripts/dev {command} {args}: {r.returncode}\n{r.stderr}"
        return r

    def up(self):
        self.dev("up")
        return self

    def down(self):
        self.dev("down")

    def stop(self, name):
        self.dev("stop", name)

    def start(self, name):
        self.dev("start", name)

    def kill(self, name):
        self.dev("kill", name)

    def env(self):
        return parse_env(self.dev("env").stdout)

    def status(self):
        """{name: (state, port, pid or None)}"""
        rows = (line.split() for line in self.dev("status", check=False).stdout.splitlines())
        return {r[0]: (r[1], int(r[3]), None if r[5] == "-" else int(r[5])) for r in rows}

    def erl(self, expressions):
        return self.dev("erl", expressions).stdout.strip()

    def rabbitmqctl(self, *args):
        return self.dev("rabbitmqctl", *args).stdout

    def in_alarm(self):
        """Whether the broker takes no messages; who connects later is told at once."""
        return "resource_limit" in self.erl("rabbit_alarm:get_alarms().")

    def log(self, name):
        with open(os.path.join(self.dir, "log", name + ".log"), errors="replace") as f:
            return f.read()
