# SPDX-License-Identifier: MIT
"""A test's own virtual host, database, state folder and zr.conf on shared servers, and the zr programs in it."""
import json
import os
import shutil
import subprocess

import pika
import psycopg2

from lib import processes
from lib.daemon import Daemon
from lib.services import BUILD, ROOT, parse_env
from lib.wait import wait_for


class Sandbox:
    def __init__(self, services, name, hosts=()):
        self.services, self.name = services, name
        services.dev("sandbox", name, *hosts)
        self.dir = os.path.join(services.dir, "sandbox", name)
        self.env = self._environment()
        self.hosts = {h: self._environment(h) for h in hosts}
        self.conf = self.env["ZR_CONF"]
        self.bin = self.env["ZR_BIN"]
        self.state = os.path.join(self.dir, "zr")
        self.run_dir = os.path.join(self.dir, "run")
        os.mkdir(os.path.join(self.dir, "log"))
        self._daemons, self._open = [], []

    def _environment(self, host=None):
        env = parse_env(self.services.dev("sandbox-env", self.name, *([host] if host else [])).stdout)
        env["HOME"] = self.dir
        for name, value in os.environ.items():
            if name in ("LANG", "TERM") or name.endswith("SAN_OPTIONS"):
                env[name] = value
        return env

    # --- settings and evaluators ---

    def setting(self, key, value, host=None):
        """Sets one more key: a file in conf.d, read after zr.conf."""
        folder = os.path.join(os.path.dirname((self.hosts[host] if host else self.env)["ZR_CONF"]), "conf.d")
        os.makedirs(folder, exist_ok=True)
        if isinstance(value, (list, tuple)):
            value = "{" + ", ".join(json.dumps(v) for v in value) + "}"
        elif isinstance(value, str):
            value = json.dumps(value)
        with open(os.path.join(folder, f"test-{key}.conf"), "w") as f:
            f.write(f"{key} = {value}\n")

    def evaluator(self, name, script, conf=None):
        """An evaluator in the bin folder: a bare executable, or a folder with run.sh and an evaluator.conf."""
        path = os.path.join(self.bin, name)
        if conf is not None:
            os.makedirs(path)
            with open(os.path.join(path, "evaluator.conf"), "w") as f:
                f.write(conf)
            path = os.path.join(path, "run.sh")
        with open(path, "w") as f:
            f.write(script)
        os.chmod(path, 0o755)
        return path

    def file(self, name, content=""):
        """A file in the sandbox's folder `files`, for submissions and the like; returns its path."""
        path = os.path.join(self.dir, "files", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb" if isinstance(content, bytes) else "w") as f:
            f.write(content)
        return path

    # --- programs ---

    def run(self, *argv, check=True, timeout=60, env=None, host=None, **kw):
        """Runs a program of the build (or of the system) to its end. check: True, or the exit status it must have."""
        base = self.hosts[host] if host else self.env
        program = os.path.join(BUILD, argv[0])
        argv = [program if os.path.exists(program) else argv[0], *map(str, argv[1:])]
        kw.setdefault("stdin", None if "input" in kw else subprocess.DEVNULL)
        r = subprocess.run(argv, env={**base, **(env or {})}, cwd=self.dir, capture_output=True, text=True,
                           timeout=timeout, **{k: v for k, v in kw.items() if not (k == "stdin" and v is None)})
        want = 0 if check is True else check
        assert check is False or r.returncode == want, \
            f"{' '.join(argv)}: status {r.returncode}, not {want}\nstdout: {r.stdout}\nstderr: {r.stderr}"
        return r

    def zr(self, *args, **kw):
        return self.run("zr", *args, **kw)

    def zr_json(self, *args, **kw):
        return json.loads(self.zr(*args, "--json", **kw).stdout)

    def zr_id(self, *args, **kw):
        """For verbs whose only line ends with the new id."""
        lines = self.zr(*args, **kw).stdout.splitlines()
        assert len(lines) == 1, lines
        return lines[0].split()[-1]

    def prepare(self):
        """What a site does once: the schema and the broker's topology."""
        self.zr("db:migrate")

        # A broker that was killed just before answers while its queues are still coming up: 75 is "try again".
        def applied():
            r = self.zr("topology:apply", check=False)
            assert r.returncode in (0, 75), r.stderr
            return r.returncode == 0
        wait_for(applied, 30, "the broker to make queues", interval=0.5)
        return self

    def start(self, *argv, name=None, ready=True, env=None, host=None, timeout=30):
        """Starts a daemon and waits until it says READY=1."""
        base = self.hosts[host] if host else self.env
        name = name or argv[0] + ("-" + argv[1].rpartition(":")[2] if len(argv) > 1 and ":" in argv[1] else "")
        log = os.path.join(self.dir, "log", f"{name}.{len(self._daemons)}.log")
        daemon = Daemon(name, [os.path.join(BUILD, argv[0]), *map(str, argv[1:])], {**base, **(env or {})}, log, self.dir)
        self._daemons.append(daemon)
        return daemon.wait_ready(timeout) if ready else daemon

    def eval_worker(self, *args, **kw):
        return self.start("zr", "worker:run:eval", *(args or ("-w", 1, "--prefetch-count", 2)), **kw)

    def update_worker(self, *args, **kw):
        return self.start("zr", "worker:run:update", *args, **kw)

    # --- the servers, through clients that are not ours ---

    def amqp(self, **parameters):
        url = pika.URLParameters(self.env["AMQP_URL"])
        url.socket_timeout, url.blocked_connection_timeout = 10, 30
        for key, value in parameters.items():
            setattr(url, key, value)
        connection = pika.BlockingConnection(url)
        self._open.append(connection)
        return connection

    def channel(self):
        channel = self.amqp().channel()
        channel.confirm_delivery()
        return channel

    def db(self):
        connection = psycopg2.connect(self.env["DATABASE_URL"])
        connection.autocommit = True
        self._open.append(connection)
        return connection

    def query(self, sql, *parameters):
        """The rows of one statement on a connection of its own."""
        connection = psycopg2.connect(self.env["DATABASE_URL"])
        try:
            connection.autocommit = True
            with connection.cursor() as c:
                c.execute(sql, parameters or None)
                return c.fetchall() if c.description else []
        finally:
            connection.close()

    # --- evaluations ---

    def evaluation(self, ident):
        return self.zr_json("evaluations:show", ident)

    def wait_evaluation(self, ident, *states, timeout=60):
        """The evaluation once its status is one of `states` (default: any final one)."""
        states = states or ("completed", "failed", "canceled")

        def reached():
            shown = self.evaluation(ident)
            assert shown["status"] in states, f"evaluation {ident}: {shown}"
            return shown
        return wait_for(reached, timeout, f"evaluation {ident} to be {' or '.join(states)}", interval=0.1)

    # --- the end ---

    def processes(self):
        return processes.working_in(self.dir)

    def close(self, keep=None):
        """Ends what runs in it and removes it; with `keep`, its folder goes there first."""
        for connection in self._open:
            try:
                connection.close()
            except (pika.exceptions.AMQPError, psycopg2.Error):
                pass
        for daemon in self._daemons:
            daemon.close()
        processes.end_all(self.dir)
        if keep:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(self.dir, keep, symlinks=True, ignore_dangling_symlinks=True,
                            copy_function=shutil.copy2, ignore=_no_sockets)
        self.services.dev("sandbox-drop", self.name, check=False)


def _no_sockets(folder, names):
    def special(path):
        return not (os.path.isfile(path) or os.path.isdir(path) or os.path.islink(path))
    return [n for n in names if special(os.path.join(folder, n))]


KEEP = os.path.join(ROOT, "build/check/failed")
