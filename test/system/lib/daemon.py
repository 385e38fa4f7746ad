# SPDX-License-Identifier: MIT
"""A daemon under test: started as systemd would, with a notify socket, its output in a file."""
import os
import re
import signal
import socket
import subprocess
import uuid

from lib.wait import wait_for


class Daemon:
    def __init__(self, name, argv, env, log, cwd=None, stdout=None):
        """stdout: a file of its own for standard output."""
        self.name, self.argv, self.log_path = name, argv, log
        self.notes = []
        address = f"\0zr-test-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(address)
        self._socket.setblocking(False)
        env = dict(env, NOTIFY_SOCKET="@" + address[1:])
        with open(log, "ab") as err, open(stdout or log, "ab") as out:
            self.process = subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def _tail(self):
        return "".join(self.log().splitlines(keepends=True)[-30:])

    def alive(self):
        return self.process.poll() is None

    def notified(self, line):
        """Whether the daemon has sent this sd_notify line ("READY=1", or a prefix ending in "=")."""
        try:
            while True:
                self.notes += self._socket.recv(65536).decode(errors="replace").splitlines()
        except BlockingIOError:
            pass
        return any(n == line or (line.endswith("=") and n.startswith(line)) for n in self.notes)

    def wait_notified(self, line, timeout=30):
        def seen():
            return self.notified(line) or not self.alive()
        wait_for(seen, timeout, f"{line} from {self.name}; its log ends:\n{self._tail()}")
        assert self.notified(line), f"{self.name} ended with {self.process.returncode} before {line}:\n{self._tail()}"

    def wait_ready(self, timeout=30):
        self.wait_notified("READY=1", timeout)
        return self

    def wait_log(self, pattern, timeout=15):
        return wait_for(lambda: re.search(pattern, self.log(), re.M), timeout, f"/{pattern}/ in {self.log_path}")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30):
        """The exit status; negative for a signal."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout} s:\n{self._tail()}") from None

    def stop(self, timeout=30):
        """SIGTERM, and it must end by itself with status 0."""
        self.signal(signal.SIGTERM)
        status = self.wait(timeout)
        assert status == 0, f"{self.name} ended with {status} after SIGTERM:\n{self._tail()}"

    def kill(self):
        """SIGKILL to the main process alone, as the OOM killer would; what it started lives on."""
        if self.alive():
            self.signal(signal.SIGKILL)
        self.wait()

    def kill_group(self):
        """SIGKILL to everything in the daemon's process group at once, as a crash of the unit would."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()

    def close(self):
        if self.alive():
            self.kill_group()
        self._socket.close()
