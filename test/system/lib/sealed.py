# SPDX-License-Identifier: MIT
"""Sealed objects made by other means than zr's own: Python's tarfile and the zstd program. What a hostile host could
make as well: every member of the archive and every byte of the manifest can be chosen."""
import hashlib
import io
import os
import subprocess
import tarfile

CHUNK = 4 << 20


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def compress(data, level=1):
    return subprocess.run(["zstd", f"-{level}", "--single-thread", "--no-check", "-qc"], input=data, check=True, capture_output=True).stdout


def member(name, kind=tarfile.REGTYPE, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = 0o640
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def archive(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def manifest(entries, pack, name="result", **fields):
    """entries: {path: bytes, or None for a folder}. fields replace what is computed."""
    lines = []
    for path in sorted(entries, key=os.fsencode):
        data = entries[path]
        if data is None:
            lines.append('{"path":%s,"type":"dir"}' % quote(path))
        else:
            size, digest = data if isinstance(data, tuple) else (len(data), sha256(data))
            lines.append('{"path":%s,"type":"file","size":%d,"sha256":"%s"}' % (quote(path), size, digest))
    files = [d for d in entries.values() if d is not None]
    f = {
        "files": len(files),
        "dirs": len(entries) - len(files),
        "bytes": sum(d[0] if isinstance(d, tuple) else len(d) for d in files),
        "size": len(pack),
        "chunks": [sha256(pack[i:i + CHUNK]) for i in range(0, len(pack), CHUNK)],
    }
    f.update(fields)
    return (
        '{"zr":"1.0","type":"manifest","name":"%s","files":%d,"dirs":%d,"bytes":%d,"truncated":"",\n'
        '"pack":{"size":%d,"chunk_size":%d,"sha256":"%s","chunks":[%s]},\n"entries":[%s],\n'
        '"refused_total":0,"refused":[]}\n'
        % (name, f["files"], f["dirs"], f["bytes"], f["size"], CHUNK, sha256(pack),
           ",".join('\n"%s"' % c for c in f["chunks"]), ",".join("\n" + e for e in lines))
    ).encode("utf-8", "surrogateescape")


# The root hash of a result without a file, of which its host seals nothing; manifest.h.
EMPTY = "sha256:7530dabac07c04db1977cb776c24c6478dda190f25eadc0b88e1cad4a0c493d0"


class Sealed:
    """A sealed folder; `root` is its root hash."""

    def __init__(self, folder, pack, text, name="result"):
        os.makedirs(folder, exist_ok=True)
        self.dir, self.name, self.text = str(folder), name, text
        self.pack_path = os.path.join(self.dir, name + ".tar.zst")
        with open(self.pack_path, "wb") as f:
            f.write(pack)
        with open(os.path.join(self.dir, "manifest.json"), "wb") as f:
            f.write(text)
        self.root = "sha256:" + sha256(text)


def seal(folder, entries, name="result"):
    """An honest object of {path: bytes, None for a folder}; missing parents are added."""
    entries = dict(entries)
    for path in list(entries):
        while "/" in path:
            path = path.rpartition("/")[0]
            entries.setdefault(path, None)
    members = [member(p, tarfile.DIRTYPE) if entries[p] is None else member(p, data=entries[p]) for p in sorted(entries)]
    pack = compress(archive(members))
    return Sealed(folder, pack, manifest(entries, pack, name), name)
