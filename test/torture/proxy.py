# SPDX-License-Identifier: MIT
"""A TCP proxy that cuts connections where it hurts."""
import contextlib
import select
import socket
import threading
import time


class Proxy:
    """Forwards 127.0.0.1:`port` to `target`. Whenever bytes of the server are at hand, `judge(connection, data)` says how many of them
    the client gets, or None for all; fewer than there are: both ends are closed then. `rate`: bytes a second from the server."""

    class Connection:
        def __init__(self, number, client, server):
            self.number, self.client, self.server = number, client, server
            self.sent = 0        # bytes of the server that the client got
            self.answers = 0     # for judges

    def __init__(self, target, judge, rate=None):
        self.target, self.judge, self.rate = target, judge, rate
        self.cuts = self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = set()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        self.hang_up()

    def hang_up(self):
        """Ends what is open; who comes next is served."""
        for s in list(self._open):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client, number):
        with contextlib.suppress(OSError), client, socket.create_connection(self.target, 10) as server:
            self._open |= {client, server}
            c = self.Connection(number, client, server)
            while self._forward(c):
                pass
        self._open = {s for s in self._open if s.fileno() >= 0}

    def _forward(self, c):
        """False: it is over."""
        ready, _, _ = select.select([c.client, c.server], [], [])
        if c.client in ready:
            data = c.client.recv(65536)
            if not data:
                return False
            c.server.sendall(data)
        if c.server not in ready:
            return True
        data = c.server.recv(65536)
        if not data:
            return False
        n = self.judge(c, data)
        part = data if n is None else data[:n]
        c.client.sendall(part)
        c.sent += len(part)
        if self.rate and len(part):
            time.sleep(len(part) / self.rate)
        if n is not None and n < len(data):
            self.cuts += 1
            return False
        return True
