# SPDX-License-Identifier: MIT
"""A file system that never answers: whoever reads its file cannot be killed before its server has gone.

The server speaks the protocol of /dev/fuse itself, so that nothing but the kernel is needed: a request that it has read
and not answered is waited for without regard to signals, SIGKILL included.
"""
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys

from lib.wait import wait_for

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, INIT, OPENDIR, READDIR, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 17, 26, 27, 28, 36, 42
SILENT = (READ, FORGET, INTERRUPT, BATCH_FORGET)
IN = struct.Struct("<IIQQIIIHH")
OUT = struct.Struct("<IiQ")
ROOT, FILE = 1, 2
DIRECT_IO = 1  # without it the reader waits for a page, and can be killed


def _attributes(node):
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o444
    return struct.pack("<6Q10I", node, 4096, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _answer(op, node, body):
    """The bytes of the answer, or the number of an error."""
    if op == INIT:
        return struct.pack("<4I2H2I2H2I6I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0, *[0] * 7)
    if op == LOOKUP:
        if node != ROOT or body.rstrip(b"\0") != b"file":
            return errno.ENOENT
        return struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + _attributes(FILE)
    if op == GETATTR:
        return struct.pack("<Q2I", 3600, 0, 0) + _attributes(node)
    if op in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 0, DIRECT_IO if op == OPEN else 0, 0)
    if op == READDIR:
        return b""
    if op == STATFS:
        return bytes(80)
    return errno.ENOSYS


def _serve(folder, note):
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hang", os.fsencode(folder), b"fuse.hang", 0, options) != 0:
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    while True:
        message = os.read(fd, 1 << 20)
        _, op, unique, node, *_ = IN.unpack_from(message)
        if op == READ:
            with open(note, "a") as f:
                print("read", file=f)
        if op in SILENT:
            continue
        answer = _answer(op, node, message[IN.size:])
        error, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(fd, OUT.pack(OUT.size + len(data), error, unique) + data)


class HangFs:
    """Mounted on `folder`; its one file is `path`."""

    def __init__(self, folder):
        self.folder, self.path, self._note = str(folder), os.path.join(folder, "file"), str(folder) + ".reads"
        os.mkdir(folder)
        self.process = subprocess.Popen([sys.executable, __file__, self.folder, self._note], stdin=subprocess.DEVNULL,
                                        env={"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))})
        wait_for(lambda: self.process.poll() is not None or os.path.ismount(self.folder), 60, "the file system")
        assert self.process.poll() is None

    def wait_read(self, n=1):
        """Somebody waits for what never comes."""
        def seen():
            try:
                with open(self._note) as f:
                    return f.read().count("\n") >= n
            except FileNotFoundError:
                return False
        wait_for(seen, 60, "a reader")

    def close(self):
        """Its server goes: every request fails."""
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
