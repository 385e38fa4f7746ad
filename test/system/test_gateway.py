# SPDX-License-Identifier: MIT
"""zr-gateway: what HTTP clients of the dialect pike send and get, and that nothing of it is lost."""
import http.client
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from lib.daemon import Daemon
from lib.pike import Pike
from lib.services import BUILD
from lib.wait import stays, wait_for


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Gateway:
    def __init__(self, pike):
        self.pike, self.port = pike, free_port()
        self.daemon = Daemon("zr-gateway", [os.path.join(BUILD, "zr-gateway"), f"--port={self.port}", "--worker-io-dir", pike.io],
                             pike.env, os.path.join(pike.dir, "gateway.log"), pike.dir)
        pike.daemons.append(self.daemon)
        self.daemon.wait_ready()

    def raw(self, data):
        """The bytes of the reply to these bytes; empty if there is none."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as s:
            s.sendall(data)
            out = b""
            try:
                while piece := s.recv(65536):
                    out += piece
            except ConnectionResetError:
                pass
            return out

    def ask(self, method, path, body=None):
        """(status, Content-Type or None, body)"""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            c.request(method, path, body)
            r = c.getresponse()
            return r.status, r.getheader("Content-Type"), r.read().decode()
        finally:
            c.close()

    def submit(self, **fields):
        status, kind, body = self.ask("POST", "/submit", json.dumps(fields))
        assert status == 200 and kind is None and len(body) == 36, (status, body)
        return body

    def poll(self, ident):
        status, kind, body = self.ask("GET", "/poll?id=" + ident)
        assert status == 200 and kind == "application/json"
        return json.loads(body)

    def result(self, ident):
        return wait_for(lambda: self.poll(ident), 20, f"the result of {ident}")


@pytest.fixture
def pike():
    p = Pike()
    yield p
    p.close()


@pytest.fixture
def gateway(pike):
    return Gateway(pike)


def sent(pike, kind="eval"):
    found = []
    for name in sorted(os.listdir(pike.input)):
        if name.endswith(".done"):
            with open(os.path.join(pike.input, name[:-5] + ".json")) as f:
                found.append(json.load(f))
    return [m for m in found if m["type"] == kind]


def answer(pike, stem, message):
    os.makedirs(pike.output, exist_ok=True)
    with open(os.path.join(pike.output, stem + ".json"), "w") as f:
        json.dump(message, f)
    open(os.path.join(pike.output, stem + ".done"), "w").close()


def test_routes(pike, gateway):
    assert gateway.ask("GET", "/ready") == (200, "application/json", "false")
    assert gateway.ask("GET", "/poll?id=unknown") == (200, "application/json", "null")
    for path in ("/poll", "/poll?id="):
        assert gateway.ask("GET", path) == (500, None, "Bad input")
    for method, path in (("GET", "/submit"), ("GET", "/ready/"), ("GET", "/"), ("POST", "/ready"), ("POST", "/poll?id=x"), ("GET", "/x")):
        assert gateway.ask(method, path) == (404, None, "Not Found")
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        status, kind, body = gateway.ask(method, "/ready")
        assert status == 501 and kind.startswith("text/html") and "501" in body
    assert gateway.raw(b"HEAD /ready HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 501 ")
    assert gateway.ask("GET", "/close") == (200, None, "OK")
    assert sent(pike, "close") == [{"type": "close"}]
    reply = gateway.raw(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.0 200 ") and reply.endswith(b"\r\n\r\nfalse")


@pytest.mark.parametrize("fields, want", [
    ({"code": "x", "level": 3, "task": "7"}, {"level": "3", "task": 7, "mode": "eager"}),
    ({"code": "é\n\"", "level": "3-pike", "task": 7.9, "mode": "compile"}, {"level": "3-pike", "task": 7, "mode": "compile"}),
    ({"code": "", "level": None, "task": " -12 ", "mode": None}, {"level": "None", "task": -12, "mode": "None"}),
    ({"code": "x", "level": True, "task": True, "mode": 1.5}, {"level": "True", "task": 1, "mode": "1.5"}),
], ids=["words", "floats", "null", "bool"])
def test_submissions(pike, gateway, fields, want):
    ident = gateway.submit(**fields)
    assert sent(pike) == [{"id": ident, "type": "eval", "code": fields["code"], **want}]


def test_bad_submissions(pike, gateway):
    for body in ("", "no", "[1]", "{}", '{"code": "x", "level": 1}', '{"code": "x", "task": 1}', '{"level": 1, "task": 1}',
                 '{"code": "x", "level": 1, "task": "seven"}', '{"code": "x", "level": 1, "task": null}',
                 '{"code": "x", "level": 1, "task": NaN}', '{"code": "x", "level": 1, "task": [1]}', '{"code": "x", "level": [1], "task": 1}',
                 '{"code": "x", "level": 1, "task": ""}', '"\\ud800"', "{" * 1000):
        assert gateway.ask("POST", "/submit", body) == (500, None, "Bad input"), body
    assert gateway.ask("POST", "/submit", b"\xff") == (500, None, "Bad input")
    body = b'{"code": 5, "level": 1, "task": 1}'
    assert gateway.raw(b"POST /submit HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) == b""
    assert sent(pike) == []
    for junk in (b"\r\n\r\n", b"GET\r\n\r\n", b"\0" * 100, b"GET /ready HTTP/9.9\r\n\r\n", b"POST /submit HTTP/1.0\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as s:
            s.sendall(junk)
    assert gateway.ask("GET", "/ready")[0] == 200


def test_a_worker_behind_it(pike, gateway):
    # The handshake of its start is there when the worker comes.
    pike.start()
    wait_for(lambda: gateway.ask("GET", "/ready")[2] == "true", 10)
    ident = gateway.submit(code="print('hi'); good()", level=1, task=1)
    got = gateway.result(ident)
    assert got["id"] == ident and got["type"] == "result" and got["results"]["stdout"] == "hi\n"
    assert got["results"]["eval_results"]["runtime"] == 1.25
    # Again, and after a restart: it is kept.
    assert gateway.poll(ident) == got
    other = gateway.submit(code="result(loaded=True, correct=False, max_diff=[float('nan')])", level=1, task=2)
    assert "NaN" in json.dumps(gateway.result(other))
    gateway.daemon.signal(signal.SIGINT)
    assert gateway.daemon.wait() == 0 and gateway.daemon.log().endswith("Exited cleanly\n")
    again = Gateway(pike)
    assert again.poll(ident) == got and again.ask("GET", "/ready")[0] == 200
    wait_for(lambda: again.ask("GET", "/ready")[2] == "true", 10)


def test_all_that_waits_is_served_at_once_and_what_is_odd_stops_nothing(pike, gateway):
    for i in (1, 2, 3):
        answer(pike, f"p{i}", {"id": f"r{i}", "type": "result", "results": {}})
    for i in (1, 2, 3):
        wait_for(lambda: gateway.poll(f"r{i}"), 2)
    answer(pike, "q1", {"type": "result", "results": {}})
    answer(pike, "q2", {"id": {"x": 1}, "type": "result", "results": {}})
    answer(pike, "q3", [1])
    answer(pike, "p4", {"id": "r4", "type": "result", "results": {}})
    answer(pike, "p5", {"id": "../../x é", "type": "result", "results": {}})
    wait_for(lambda: gateway.poll("r4"), 3)
    assert gateway.poll("..%2F..%2Fx%20%C3%A9")["id"] == "../../x é"
    assert all(gateway.poll(f"r{i}") for i in (1, 2, 3))
    wait_for(lambda: os.listdir(pike.output) == ["rejected"], 5)
    assert gateway.daemon.log().count("is put aside") == 3


def test_a_handshake_is_repeated_until_it_is_answered(pike, gateway):
    wait_for(lambda: len(sent(pike, "handshake")) == 1)
    # As long as nobody has taken it there is no second one.
    assert stays(lambda: len(sent(pike, "handshake")) == 1, 6) is None
    for name in os.listdir(pike.input):
        os.unlink(os.path.join(pike.input, name))
    wait_for(lambda: len(sent(pike, "handshake")) == 1, 10)


def test_its_start_empties_the_input_folder(pike):
    os.makedirs(pike.input)
    pike.ask("old", "x")
    gateway = Gateway(pike)
    assert sent(pike) == [] and gateway.ask("GET", "/ready")[2] == "false"


def test_many_clients_at_once(pike, gateway):
    pike.start()
    results = {}

    def client(i):
        ident = gateway.submit(code=f"print({i}); good()", level=1, task=i)
        results[i] = gateway.result(ident)["results"]["stdout"]
    threads = [threading.Thread(target=client, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {i: f"{i}\n" for i in range(20)}


def test_wrong_calls(pike):
    for argv in (["--port", "0"], ["--port", "x"], ["more"], ["--nix"]):
        r = subprocess.run([os.path.join(BUILD, "zr-gateway"), *argv], capture_output=True, text=True, timeout=10)
        assert r.returncode == 2, argv
    gateway = Gateway(pike)
    r = subprocess.run([os.path.join(BUILD, "zr-gateway"), f"--port={gateway.port}", "--worker-io-dir", pike.io], capture_output=True,
                       text=True, timeout=10)
    assert r.returncode == 1 and f"127.0.0.1:{gateway.port}" in r.stderr
