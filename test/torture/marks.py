# SPDX-License-Identifier: MIT
"""Which runs there were. A job adds a line to a file as its first act; one in a sandbox, which cannot, tells a socket that its
evaluator shows it."""
import os
import socketserver
import threading
import time


def read(folder):
    """(evaluation, attempt, attempt id, time, alone) of each run"""
    try:
        with open(os.path.join(folder, "runs")) as f:
            rows = [line.split() for line in f]
    except FileNotFoundError:
        return []
    return [(int(r[0]), int(r[1]), r[2], float(r[3]), r[4] == "alone") for r in rows]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def place(folder):
    """Where a run with this folder has its socket: not below /tmp, of which each box has one of its own."""
    return os.path.join("/var/tmp", os.path.basename(folder) + ".marks")


class Counter:
    """The socket."""

    def __init__(self, marks, folder):
        counter = self
        self.marks, self.folder = marks, folder
        os.mkdir(folder)
        self._running, self._lock = {}, threading.Lock()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                counter.job(self.rfile, self.wfile)
        self._server = _Server(os.path.join(self.folder, "socket"), Handler)
        os.chmod(self.folder, 0o755)
        os.chmod(os.path.join(self.folder, "socket"), 0o777)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def job(self, incoming, outgoing):
        line = incoming.readline().decode().split()
        if len(line) != 3:
            return
        with self._lock:
            alone = not self._running.get(line[0])
            self._running[line[0]] = self._running.get(line[0], 0) + 1
            with open(os.path.join(self.marks, "runs"), "a") as f:
                f.write(f"{' '.join(line)} {time.time():.6f} {'alone' if alone else 'together'}\n")
        try:
            outgoing.write(b"g")
            # To the end of its last process.
            incoming.read()
        except OSError:
            pass
        with self._lock:
            self._running[line[0]] -= 1

    def close(self):
        self._server.shutdown()
        self._server.server_close()
