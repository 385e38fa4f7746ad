# SPDX-License-Identifier: MIT
"""An sshd of a test's own, to give odd keys and options and to kill, and a proxy that spoils connections to it."""
import getpass
import os
import select
import socket
import subprocess
import threading
import time

from lib.wait import wait_for


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def keygen(path, kind="ed25519"):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", path], check=True, stdin=subprocess.DEVNULL)


def public(path):
    with open(path + ".pub") as f:
        return " ".join(f.read().split()[:2])


def _use_pam():
    """Without PAM sshd refuses an account whose password field starts with '!'."""
    if os.geteuid() != 0:
        return "no"
    shadow = subprocess.run(["getent", "shadow", "root"], capture_output=True, text=True).stdout
    return "yes" if shadow.split(":")[1:2] and shadow.split(":")[1].startswith("!") else "no"


class Sshd:
    """`options`: lines of sshd_config. The account is ours, with sftp and nothing else."""

    def __init__(self, folder, host_key="ed25519", user_key="ed25519", options=()):
        self.dir, self.port, self.user = str(folder), free_port(), getpass.getuser()
        os.makedirs(self.dir, exist_ok=True)
        self.host_key, self.user_key = self.path("host_key"), self.path("user_key")
        keygen(self.host_key, host_key)
        keygen(self.user_key, user_key)
        with open(self.path("authorized_keys"), "w") as f:
            f.write('restrict,command="internal-sftp" ' + public(self.user_key) + "\n")
        self.known_hosts = self.path("known_hosts")
        self.pin(public(self.host_key))
        self.options = list(options)
        self.process = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def pin(self, key, port=None, mode="w"):
        with open(self.known_hosts, mode) as f:
            f.write(f"[127.0.0.1]:{port or self.port} {key}\n")

    def trust(self, port):
        """Another way to this server: its key is pinned for that port too."""
        self.pin(public(self.host_key), port, "a")

    def __enter__(self):
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}", f"HostKey {self.host_key}", f"AuthorizedKeysFile {self.path('authorized_keys')}",
            "PidFile none", "StrictModes no", f"UsePAM {_use_pam()}", "PermitRootLogin prohibit-password",
            "AuthenticationMethods publickey", "UseDNS no", "PrintMotd no", "MaxStartups 100", "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp", *self.options,
        ]
        with open(self.path("config"), "w") as f:
            f.write("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        with open(self.path("log"), "wb") as log:
            self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", self.path("config")], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=self.dir, start_new_session=True)
        wait_for(self._answers, what="sshd to answer")
        return self

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                return s.recv(4) == b"SSH-"
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def url(self, folder, port=None):
        return f"ssh://{self.user}@127.0.0.1:{port or self.port}{folder}"


class Proxy:
    """Forwards to a port and does harm: `cut_after` bytes from the server the connection is cut, on the first `cuts`
    connections, then for good after `then`; `stall_after` bytes it goes silent; `delay` seconds each way; `rate` bytes a second from the server."""

    def __init__(self, port, cut_after=None, cuts=1, then=None, stall_after=None, delay=0.0, rate=None):
        self.target, self.cut_after, self.cuts, self.then, self.stall_after, self.delay, self.rate = port, cut_after, cuts, then, stall_after, delay, rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        self.only = None  # later connections than this many are closed at once
        self.bytes = 0
        self._open = set()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        for s in list(self._open):
            s.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.only is not None and self.connections > self.only:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client, number):
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        self._open |= {client, server}
        threading.Thread(target=self._pump, args=(client, server, None, None), daemon=True).start()
        self._pump(server, client, self.cut_after if number <= self.cuts else self.then, self.stall_after)

    def _pump(self, src, dst, cut, stall):
        """One direction. Data waits in a queue until it is due."""
        queue, seen, open_ = [], 0, True
        try:
            while open_ or queue:
                wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
                ready = open_ and select.select([src], [], [], wait)[0]
                if ready:
                    data = src.recv(65536)
                    open_ = bool(data)
                    if data:
                        queue.append((time.monotonic() + self.delay, data))
                while queue and queue[0][0] <= time.monotonic():
                    data = queue.pop(0)[1]
                    if stall is not None and seen + len(data) > stall:
                        while True:
                            time.sleep(3600)
                    if cut is not None and seen + len(data) > cut:
                        raise OSError
                    seen += len(data)
                    self.bytes += len(data)
                    dst.sendall(data)
                    if self.rate:
                        time.sleep(len(data) / self.rate)
                if not open_ and not queue:
                    dst.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (src, dst):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()
