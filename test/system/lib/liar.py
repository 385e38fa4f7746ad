# SPDX-License-Identifier: MIT
"""A broker that lies: plays fixed bytes at each step of AMQP's handshake."""
import socket
import struct
import threading

from pika import frame, spec

START = frame.Method(0, spec.Connection.Start(0, 9, {"product": "Liar"}, "PLAIN", "en_US")).marshal()
TUNE = frame.Method(0, spec.Connection.Tune(2047, 131072, 60)).marshal()
OPEN_OK = frame.Method(0, spec.Connection.OpenOk()).marshal()


def tune(channel_max=2047, frame_max=131072, heartbeat=60):
    return frame.Method(0, spec.Connection.Tune(channel_max, frame_max, heartbeat)).marshal()


def close(code, text):
    return frame.Method(0, spec.Connection.Close(code, text, 0, 0)).marshal()


def raw_frame(kind, channel, payload, end=b"\xce"):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


class Liar:
    """Each step waits for bytes from the client, then sends. After the last one it hangs up, or stays silent."""

    def __init__(self, *steps, hang_up=False):
        self.steps, self.hang_up = steps, hang_up
        self.connections = 0
        self.heard = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._clients = []
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self):
        return f"amqp://u:S3CRET@127.0.0.1:{self.port}/v"

    def _serve(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._clients.append(client)
            threading.Thread(target=self._play, args=(client,), daemon=True).start()

    def _play(self, client):
        try:
            for step in self.steps:
                data = client.recv(65536)
                if not data:
                    return
                self.heard += data
                client.sendall(step)
            if self.hang_up:
                client.close()
            else:
                while data := client.recv(65536):
                    self.heard += data
        except OSError:
            pass

    def stop(self):
        self._server.close()
        for client in self._clients:
            client.close()
