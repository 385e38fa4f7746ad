# SPDX-License-Identifier: MIT
"""Certificates, and a TLS door in front of a plain server: Python's TLS, not ours."""
import os
import socket
import ssl
import subprocess
import threading


class Authority:
    def __init__(self, folder):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.ca = self._path("ca.pem")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-subj", "/CN=zr test authority", "-keyout", self._path("ca.key"), "-out", self.ca)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _openssl(self, *argv):
        subprocess.run(["openssl", *argv], check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def certificate(self, name, names):
        """(certificate, key) for subjectAltName `names`, as "IP:127.0.0.1" or "DNS:localhost"."""
        key, request, cert, ext = (self._path(f"{name}.{e}") for e in ("key", "csr", "pem", "ext"))
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", key, "-out", request)
        with open(ext, "w") as f:
            f.write(f"subjectAltName={','.join(names)}\n")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._path("ca.key"), "-days", "2",
                      "-extfile", ext, "-out", cert)
        return cert, key


class Door:
    def __init__(self, port, cert, key, client_ca=None, versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version, self._context.maximum_version = versions
        self._context.load_cert_chain(cert, key)
        if client_ca:
            self._context.load_verify_locations(client_ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.clients = []  # subjects of the client certificates
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                raw, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._open, args=(raw,), daemon=True).start()

    def _open(self, raw):
        try:
            inside = self._context.wrap_socket(raw, server_side=True)
            self.clients.append(inside.getpeercert())
            outside = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            raw.close()
            return
        threading.Thread(target=self._copy, args=(outside, inside), daemon=True).start()
        self._copy(inside, outside)

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except (OSError, ValueError):
            pass
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        self._server.close()
