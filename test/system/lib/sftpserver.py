# SPDX-License-Identifier: MIT
"""An SFTP server on paramiko that lies: what OpenSSH's would never do, a host that was taken over can."""
import os
import socket
import threading

import paramiko

from lib.sshd import public


class _Login(paramiko.ServerInterface):
    def __init__(self, user_key):
        self.user_key = user_key

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        same = f"{key.get_name()} {key.get_base64()}" == self.user_key
        return paramiko.AUTH_SUCCESSFUL if same else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED


class _Handle(paramiko.SFTPHandle):
    def __init__(self, server, path):
        super().__init__(0)
        self.lies, self.path = server.lies, path
        with open(path, "rb") as f:
            self.data = f.read()

    def stat(self):
        attr = paramiko.SFTPAttributes.from_stat(os.stat(self.path))
        attr.st_size = self.lies.get("size", attr.st_size)
        attr.st_mode = self.lies.get("mode", attr.st_mode)
        return attr

    def read(self, offset, length):
        name = os.path.basename(self.path)
        if self.lies.get("endless") == name:
            return b"x" * length
        data = self.data[offset:offset + length]
        if self.lies.get("short") == name and len(data) > 100:
            return data[:len(data) // 2]
        # A chunk that is wrong the first time it is read, as bytes broken on the way would be.
        if self.lies.get("wrong_once") == name and offset == 0 and not self.lies.get("done"):
            self.lies["done"] = True
            return b"\0" * len(data)
        return data


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, _server, lies):
        self.lies = lies

    def open(self, path, flags, attr):
        if not os.path.exists(path):
            return paramiko.SFTP_NO_SUCH_FILE
        return _Handle(self, path)

    def stat(self, path):
        return paramiko.SFTPAttributes.from_stat(os.stat(path)) if os.path.exists(path) else paramiko.SFTP_NO_SUCH_FILE

    lstat = stat


class SftpServer:
    """lies: size, mode (what fstat says), endless, short, wrong_once (a file's name)."""

    def __init__(self, host_key, user_key, **lies):
        self.host_key = paramiko.ECDSAKey.from_private_key_file(host_key)
        self.user_key, self.lies = public(user_key), lies
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.transports = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        for t in self.transports:
            t.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            t = paramiko.Transport(client)
            t.add_server_key(self.host_key)
            t.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self.lies)
            self.transports.append(t)
            try:
                t.start_server(server=_Login(self.user_key))
            except (paramiko.SSHException, EOFError, OSError):
                pass
