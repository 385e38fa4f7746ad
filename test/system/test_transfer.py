# SPDX-License-Identifier: MIT
"""Sealed objects fetched, pushed and published, from honest, broken and hostile hosts: zr-fetch and lib/transfer against
OpenSSH, paramiko, tar and zstd."""
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time

import pytest

from lib import sealed
from lib.sealed import Sealed, archive, compress, manifest, member, seal, sha256
from lib.services import BUILD, ROOT
from lib.sftpserver import SftpServer
from lib.sshd import Proxy, Sshd, free_port, keygen, public
from lib.wait import wait_for

FETCH = os.path.join(BUILD, "zr-fetch")
ASAN = "asan" in os.path.realpath(FETCH)


# --- set-up ---

@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def transfer(tmp_path_factory):
    """test/fake/transfer.c, built on the libraries of the build under test."""
    objects = os.path.dirname(os.path.dirname(os.path.realpath(FETCH)))
    out = str(tmp_path_factory.mktemp("bin") / "transfer")
    flags = subprocess.run(["pkg-config", "--libs", "libssh2", "libarchive", "libzstd", "nettle", "jansson"], check=True,
                           capture_output=True, text=True).stdout.split()
    subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu17", "-D_GNU_SOURCE", *(["-fsanitize=address,undefined"] if ASAN else []),
                    "-I" + os.path.join(ROOT, "lib"), os.path.join(ROOT, "test/fake/transfer.c"),
                    os.path.join(objects, "libtransfer.a"), os.path.join(objects, "libbase.a"), *flags, "-o", out], check=True)
    return out


class Site:
    """This side: a folder with staging and targets."""

    def __init__(self, folder):
        self.dir = str(folder)
        self.staging = self.path("staging")
        self.target = self.path("results/42/1")

    def path(self, name):
        return os.path.join(self.dir, name)

    def argv(self, obj, source, server=None, *more, target=None, name=None, key=None):
        argv = [FETCH, "--get", source, "--root-hash", obj.root, "--name", name or obj.name, "--target", target or self.target,
                "--staging", self.staging, *more]
        if server:
            argv += ["--ssh-key", key or server.user_key, "--known-hosts", server.known_hosts]
        return argv

    def get(self, obj, source=None, server=None, *more, timeout=90, env=None, **kw):
        """(exit status, answer)"""
        r = subprocess.run(self.argv(obj, source or obj.dir, server, *more, **kw), stdin=subprocess.DEVNULL, capture_output=True,
                           text=True, timeout=timeout, env=env)
        print(r.stderr[-3000:])
        assert r.stdout.count("\n") == 1, f"status {r.returncode}: {r.stdout!r} {r.stderr!r}"
        return r.returncode, json.loads(r.stdout)

    def left(self):
        return sorted(n for n in os.listdir(self.staging) if n != ".lock") if os.path.isdir(self.staging) else []

    def nothing_visible(self, kept=False):
        assert not os.path.exists(self.target)
        assert [n for n in self.left() if not (kept and n.endswith(".part"))] == []


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def tree(folder):
    found = {}
    for base, dirs, files in os.walk(folder):
        for n in dirs:
            found[os.path.relpath(os.path.join(base, n), folder)] = None
        for n in files:
            with open(os.path.join(base, n), "rb") as f:
                found[os.path.relpath(os.path.join(base, n), folder)] = f.read()
    return found


CONTENT = {"scores.json": b'{"accuracy": 0.5}', ".zr/out.log": b"hello\n", "deep/er/est": b"x" * 5000, "empty": b"", "caf\u00e9": b"utf-8", "-rf": b"odd"}


@pytest.fixture
def plain(tmp_path):
    return seal(tmp_path / "sealed", CONTENT)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    return seal(tmp_path_factory.mktemp("big") / "sealed", {"big": os.urandom(30 << 20), "small": b"1"})


# --- what goes well ---

def test_pull(site, sshd, plain):
    status, answer = site.get(plain, sshd.url(plain.dir), sshd)
    assert (status, answer["ok"], answer["already"]) == (0, True, False)
    got = tree(site.target)
    assert {p: d for p, d in got.items() if d is not None} == CONTENT
    assert answer["files"] == len(CONTENT) and answer["bytes"] == sum(map(len, CONTENT.values()))
    assert os.stat(site.target + "/scores.json").st_mode & 0o7777 == 0o640
    assert site.left() == []


def test_copy_from_a_local_folder(site, plain):
    status, answer = site.get(plain, None, None, "--keep-manifest")
    assert (status, answer["ok"]) == (0, True)
    with open(site.target + "/.zr/manifest.json", "rb") as f:
        assert f.read() == plain.text


def test_many_files_with_rekeying(site, tmp_path):
    files = {f"d{i % 50}/f{i}": os.urandom(2000) for i in range(3000)}
    with Sshd(tmp_path / "sshd", options=["RekeyLimit 1M"]) as server:
        obj = seal(tmp_path / "sealed", files)
        status, answer = site.get(obj, server.url(obj.dir), server)
    assert (status, answer["files"], answer["dirs"]) == (0, 3000, 50)
    assert {p: d for p, d in tree(site.target).items() if d is not None} == files


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_key_types(site, plain, tmp_path, kind):
    with Sshd(tmp_path / "sshd", host_key=kind, user_key=kind) as server:
        assert site.get(plain, server.url(plain.dir), server)[0] == 0


def test_large_object(site, sshd, big):
    status, answer = site.get(big, sshd.url(big.dir), sshd)
    assert status == 0 and answer["fetched_bytes"] == answer["pack_bytes"] > 30 << 20
    assert os.path.getsize(site.target + "/big") == 30 << 20


def test_again_is_already(site, sshd, plain):
    assert site.get(plain, sshd.url(plain.dir), sshd, "--keep-manifest")[0] == 0
    shutil.rmtree(plain.dir)
    status, answer = site.get(plain, sshd.url(plain.dir), sshd)
    assert (status, answer["already"], answer["files"]) == (0, True, len(CONTENT))


@pytest.mark.parametrize("remote", [False, True])
def test_source_that_is_gone_is_named(site, sshd, plain, remote):
    shutil.rmtree(plain.dir)
    status, answer = site.get(plain, *([sshd.url(plain.dir), sshd] if remote else []))
    assert (status, answer["class"]) == (1, "changed")
    assert plain.dir in answer["detail"] and "was it deleted or moved?" in answer["detail"]


def test_target_named_by_its_hash(site, plain):
    target = site.path("cache/" + plain.root.split(":")[1])
    assert site.get(plain, target=target)[1]["already"] is False
    assert site.get(plain, target=target)[1]["already"] is True


def test_target_that_is_something_else(site, plain):
    os.makedirs(site.target)
    status, answer = site.get(plain)
    assert (status, answer["class"]) == (75, "host") and "is there and is not this object" in answer["detail"]
    assert os.listdir(site.target) == []


def test_two_at_once(site, plain, sshd):
    target = site.path("cache/" + plain.root.split(":")[1])
    runs = [subprocess.Popen(site.argv(plain, sshd.url(plain.dir), sshd, target=target), stdout=subprocess.PIPE) for _ in range(4)]
    answers = [json.loads(r.communicate(timeout=60)[0]) for r in runs]
    assert sorted(a["already"] for a in answers) == [False, True, True, True]


def test_other_programs_open_what_zr_seals(transfer, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    for path, data in {**CONTENT, "n" * 200 + "/" + "m" * 200: b"long"}.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    out.mkdir()
    root = subprocess.run([transfer, "seal", source, out, "a1"], check=True, capture_output=True, text=True).stdout.strip()
    text = (out / "a1/manifest.json").read_bytes()
    assert root == "sha256:" + sha256(text)
    m = json.loads(text)
    pack = (out / "a1/result.tar.zst").read_bytes()
    assert m["pack"]["sha256"] == sha256(pack) and m["pack"]["chunks"] == [sha256(pack)]
    tar = subprocess.run(["zstd", "-dc", out / "a1/result.tar.zst"], check=True, capture_output=True).stdout
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "x"], input=tar, check=True)
    hashes = {p: d if d is None else sha256(d) for p, d in tree(tmp_path / "x").items()}
    assert {e["path"]: e.get("sha256") for e in m["entries"]} == hashes


def test_chunks_of_a_large_pack(transfer, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x").write_bytes(os.urandom((9 << 20) + 7))
    (tmp_path / "out").mkdir()
    subprocess.run([transfer, "seal", tmp_path / "in", tmp_path / "out", "a"], check=True, capture_output=True)
    m = json.loads((tmp_path / "out/a/manifest.json").read_bytes())
    pack = (tmp_path / "out/a/result.tar.zst").read_bytes()
    assert m["pack"]["sha256"] == sha256(pack)
    assert m["pack"]["chunks"] == [sha256(pack[i:i + sealed.CHUNK]) for i in range(0, len(pack), sealed.CHUNK)]


# --- damage and change ---

def _flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("size", [20 << 20, 40 << 20], ids=["small", "bulk"])
@pytest.mark.parametrize("at", [0, 12 << 20, -1])
def test_one_flipped_byte(site, sshd, tmp_path, at, size):
    obj = seal(tmp_path / "sealed", {"x": os.urandom(size)})
    _flip(obj.pack_path, at if at >= 0 else os.path.getsize(obj.pack_path) - 1)
    for source, server in ((None, None), (sshd.url(obj.dir), sshd)):
        status, answer = site.get(obj, source, server)
        assert (status, answer["class"]) == (1, "changed") and "a chunk of the pack has another hash" in answer["detail"]
        site.nothing_visible()


def _replace(obj):
    seal(obj.dir, {"other": b"thing"})


def _truncate(obj):
    os.truncate(obj.pack_path, os.path.getsize(obj.pack_path) - 5)


def _no_pack(obj):
    os.unlink(obj.pack_path)


def _no_folder(obj):
    shutil.rmtree(obj.dir)


def _bad_manifest(obj):
    _flip(os.path.join(obj.dir, "manifest.json"), 40)


@pytest.mark.parametrize("change", [_replace, _truncate, _no_pack, _no_folder, _bad_manifest])
def test_changed_source(site, sshd, plain, change):
    change(plain)
    for source, server in ((None, None), (sshd.url(plain.dir), sshd)):
        status, answer = site.get(plain, source, server)
        assert (status, answer["class"]) == (1, "changed"), answer
        site.nothing_visible()


def test_wrong_once_is_read_again(site, plain, tmp_path):
    with Sshd(tmp_path / "keys", host_key="ecdsa") as keys, \
            SftpServer(keys.host_key, keys.user_key, wrong_once="result.tar.zst") as server:
        keys.trust(server.port)
        assert site.get(plain, keys.url(plain.dir, server.port), keys)[0] == 0


# --- lines that break ---

def test_cut_connections_resume(site, sshd, big):
    size = os.path.getsize(big.pack_path)
    with Proxy(sshd.port, cut_after=13 << 20, cuts=2) as proxy:
        sshd.trust(proxy.port)
        status, answer = site.get(big, sshd.url(big.dir, proxy.port), sshd)
    assert status == 0, answer
    assert proxy.connections == 3
    # Each cut costs a chunk and what libssh2 had asked for ahead.
    assert proxy.bytes < size + 2 * (4 + 16 << 20)
    assert answer["fetched_bytes"] == size


def test_a_cut_on_the_way_in_is_no_refusal(site, sshd, plain):
    """Whatever was under way, the keys, the login or the start of SFTP: who was refused would not try again for minutes."""
    answers = []
    for cut_after in range(0, 4000, 100):
        with Proxy(sshd.port, cut_after=cut_after, cuts=99) as proxy:
            sshd.trust(proxy.port)
            status, answer = site.get(plain, sshd.url(plain.dir, proxy.port), sshd)
        assert (status, answer["class"]) == (75, "transient"), (cut_after, answer)
        if answer["detail"] not in answers:
            answers.append(answer["detail"])
    assert len(answers) > 3, answers


def test_kept_chunks_are_used_later(site, sshd, big):
    size = os.path.getsize(big.pack_path)
    with Proxy(sshd.port, cut_after=13 << 20, then=1 << 20) as proxy:
        sshd.trust(proxy.port)
        status, answer = site.get(big, sshd.url(big.dir, proxy.port), sshd, "--keep-after", "1ms")
    assert (status, answer["class"]) == (75, "transient")
    site.nothing_visible(kept=True)
    assert len(site.left()) == 1
    status, answer = site.get(big, sshd.url(big.dir), sshd)
    assert status == 0 and answer["fetched_bytes"] <= size - 4 * (1 << 20)
    assert site.left() == []


def test_damaged_kept_chunks_are_fetched_again(site, sshd, big):
    part = os.path.join(site.staging, big.root.split(":")[1] + ".part")
    os.makedirs(site.staging)
    shutil.copy(big.pack_path, part)
    _flip(part, 5 << 20)
    status, answer = site.get(big, sshd.url(big.dir), sshd)
    assert (status, answer["fetched_bytes"]) == (0, 4 << 20)


def test_stalled_peer(site, sshd, big):
    with Proxy(sshd.port, stall_after=1 << 20) as proxy:
        sshd.trust(proxy.port)
        start = time.monotonic()
        status, answer = site.get(big, sshd.url(big.dir, proxy.port), sshd, "--stall", "300ms")
    assert (status, answer["class"]) == (75, "transient") and "no byte within the time limit" in answer["detail"]
    assert time.monotonic() - start < 30
    site.nothing_visible(kept=True)


def test_nobody_listens(site, plain, sshd):
    port = free_port()
    status, answer = site.get(plain, sshd.url(plain.dir, port), sshd)
    assert (status, answer["class"]) == (75, "transient") and "Connection refused" in answer["detail"]


def test_killed_fetcher_leaves_nothing_visible(site, sshd, big):
    for n in range(6):
        with Proxy(sshd.port) as proxy:
            sshd.trust(proxy.port)
            run = subprocess.Popen(site.argv(big, sshd.url(big.dir, proxy.port), sshd), stdout=subprocess.DEVNULL)
            wait_for(lambda: proxy.bytes > (n * 5 + 1) << 20 or run.poll() is not None, 60)
            run.kill()
            run.wait()
        assert not os.path.exists(site.target) or run.returncode == 0
    shutil.rmtree(site.path("results"), ignore_errors=True)
    assert site.get(big, sshd.url(big.dir), sshd)[0] == 0
    assert [n for n in site.left() if n.endswith(".tmp")] == []
    assert os.path.getsize(site.target + "/big") == 30 << 20


# --- the second way of reading, an ssh(1) for large packs on short lines ---

@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    return seal(tmp_path_factory.mktemp("huge") / "sealed", {"huge": os.urandom(60 << 20)})


def _huge(site, obj):
    with open(site.target + "/huge", "rb") as f, subprocess.Popen(["zstd", "-dc", obj.pack_path], stdout=subprocess.PIPE) as z:
        f.seek(0)
        with tarfile.open(fileobj=z.stdout, mode="r|") as tar:
            return tar.extractfile(tar.next()).read() == f.read()


def _with_a_second_session(site, obj, fetch, count):
    """Fetches until another session was opened, too: with much else to do this machine takes the way to itself for a long one, and
    over such there is none."""
    def second():
        shutil.rmtree(site.target, ignore_errors=True)
        before = count()
        status, answer = fetch()
        assert status == 0, answer
        return count() - before == 2
    wait_for(second, 90, "a second session")
    assert _huge(site, obj)


def test_large_packs_come_through_ssh(site, tmp_path, huge):
    with Sshd(tmp_path / "sshd") as server:
        def logins():
            with open(server.path("log")) as f:
                return f.read().count("Accepted publickey")
        _with_a_second_session(site, huge, lambda: site.get(huge, server.url(huge.dir), server), logins)


def test_without_a_second_session(site, sshd, huge):
    with Proxy(sshd.port) as proxy:
        def fetch():
            proxy.only = proxy.connections + 1
            return site.get(huge, sshd.url(huge.dir, proxy.port), sshd)
        sshd.trust(proxy.port)
        _with_a_second_session(site, huge, fetch, lambda: proxy.connections)


def test_second_session_is_cut(site, sshd, huge):
    """The first connection is cut too: both ways of reading go on where they were."""
    with Proxy(sshd.port, cut_after=13 << 20, cuts=2) as proxy:
        sshd.trust(proxy.port)
        status, answer = site.get(huge, sshd.url(huge.dir, proxy.port), sshd)
    assert status == 0, answer
    assert _huge(site, huge)


def test_flipped_byte_in_a_large_pack(site, sshd, huge, tmp_path):
    copy = str(tmp_path / "copy")
    shutil.copytree(huge.dir, copy)
    _flip(copy + "/result.tar.zst", 50 << 20)
    status, answer = site.get(huge, sshd.url(copy), sshd)
    assert (status, answer["class"]) == (1, "changed")
    site.nothing_visible()


# --- keys and logins: each a named, permanent error ---

def _permanent(site, obj, server, words, **kw):
    status, answer = site.get(obj, server.url(obj.dir), server, **kw)
    assert (status, answer["class"]) == (2, "permanent"), answer
    assert re.search(words, answer["detail"]), answer["detail"]
    assert "\n" not in answer["detail"]
    site.nothing_visible()
    return answer["detail"]


def fingerprint(path):
    return subprocess.run(["ssh-keygen", "-lf", path + ".pub"], check=True, capture_output=True, text=True).stdout.split()[1]


def test_unknown_host_key(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        os.unlink(server.known_hosts)
        detail = _permanent(site, plain, server, "is not known")
        assert fingerprint(server.host_key) in detail
        # The command that the sentence gives pins the key.
        command = re.search(r"echo '.*$", detail)[0]
        subprocess.run(["sh", "-c", command], check=True)
        assert site.get(plain, server.url(plain.dir), server)[0] == 0


def test_other_host_key(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        server.pin(public(server.user_key))
        detail = _permanent(site, plain, server, "does not match")
        assert fingerprint(server.host_key) in detail and fingerprint(server.user_key) in detail


def test_pinned_key_of_another_type(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        keygen(server.path("other"), "ecdsa")
        server.pin(public(server.path("other")))
        _permanent(site, plain, server, "does not match")


def test_two_pins(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        server.pin(public(server.user_key) + f"\n[127.0.0.1]:{server.port} " + public(server.host_key))
        assert site.get(plain, server.url(plain.dir), server)[0] == 0


def test_revoked_host_key(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        with open(server.known_hosts, "a") as f:
            f.write(f"@revoked [127.0.0.1]:{server.port} {public(server.host_key)}\n")
        _permanent(site, plain, server, "is revoked")


def test_rsa_host_key_only(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd", host_key="rsa") as server:
        _permanent(site, plain, server, "no common algorithm.*ed25519")


def test_refused_login(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        keygen(server.path("stranger"))
        _permanent(site, plain, server, "login refused", key=server.path("stranger"))


def test_rsa_user_key(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd", user_key="rsa") as server:
        _permanent(site, plain, server, "ed25519 or ECDSA")


def test_missing_and_bad_private_key(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd") as server:
        _permanent(site, plain, server, "private key: open", key=server.path("nothing"))
        _permanent(site, plain, server, "is not a private key file", key=server.known_hosts)


def test_account_without_sftp(site, plain, tmp_path):
    with Sshd(tmp_path / "sshd", options=["ForceCommand /bin/false"]) as server:
        status, answer = site.get(plain, server.url(plain.dir), server, "--stall", "500ms")
        assert answer["ok"] is False and "internal-sftp" in answer["detail"]
        site.nothing_visible()


# --- hostile objects ---

HOSTILE_MEMBERS = {
    "dotdot": member("../up", data=b"x"),
    "inner dotdot": member("d/../../up", data=b"x"),
    "absolute": member("/tmp/zr-hostile", data=b"x"),
    "extra": member("extra", data=b"x"),
    "extra folder": member("extra", tarfile.DIRTYPE),
    "newline": member("new\nline", data=b"x"),
    "twin": member("GOOD", data=b"x"),
    "again": member("good", data=b"good"),
    "deep": member("/".join("d" * 1 for _ in range(3000)), data=b"x"),
    "good as a folder": member("good", tarfile.DIRTYPE),
}


@pytest.mark.parametrize("name", HOSTILE_MEMBERS)
def test_hostile_members_refuse_the_object(site, tmp_path, name):
    pack = compress(archive([member("good", data=b"good"), HOSTILE_MEMBERS[name]]))
    obj = Sealed(tmp_path / "sealed", pack, manifest({"good": b"good"}, pack))
    status, answer = site.get(obj)
    assert (status, answer["class"]) == (1, "input"), answer
    site.nothing_visible()
    assert not os.path.exists("/tmp/zr-hostile") and not os.path.exists(site.path("up"))


REFUSED_MEMBERS = {
    "symlink": member("x", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hardlink": member("x", tarfile.LNKTYPE, linkname="good"),
    "char-device": member("x", tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block-device": member("x", tarfile.BLKTYPE, devmajor=8),
    "fifo": member("x", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", REFUSED_MEMBERS)
def test_other_types_are_listed_and_skipped(site, tmp_path, kind):
    pack = compress(archive([REFUSED_MEMBERS[kind], member("good", data=b"good", mode=0o6777, uid=1234, mtime=4e9)]))
    obj = Sealed(tmp_path / "sealed", pack, manifest({"good": b"good"}, pack))
    status, answer = site.get(obj)
    assert status == 0 and [(r["path"], r["type"]) for r in answer["refused"]] == [("x", kind)]
    assert tree(site.target) == {"good": b"good"}
    st = os.stat(site.target + "/good")
    assert (st.st_mode & 0o7777, st.st_uid) == (0o640, os.geteuid()) and st.st_mtime < 3e9


def test_symlink_then_a_file_through_it(site, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    pack = compress(archive([member("d", tarfile.SYMTYPE, linkname=str(outside)), member("d/f", data=b"x")]))
    obj = Sealed(tmp_path / "sealed", pack, manifest({"d": None, "d/f": b"x"}, pack))
    status, answer = site.get(obj)
    # The folder is not in the archive as a folder; nothing went through the link in any case.
    assert (status, answer["class"]) == (1, "input")
    assert list(outside.iterdir()) == []
    site.nothing_visible()


BAD_MANIFESTS = {
    "dotdot": {"../x": b"1"}, "absolute": {"/x": b"1"}, "empty name": {"a//b": b"1", "a/": None, "a": None},
    "newline": {"a\nb": b"1"}, "control": {"a\x1bb": b"1"}, "not utf-8": {"a\udcffb": b"1"},
    "case twins": {"A": b"1", "a": b"1"}, "unicode twins": {"caf\u00e9": b"1", "cafe\u0301": b"1"},
    "long name": {"n" * 256: b"1"}, "deep": {"/".join(["d"] * i): None for i in range(1, 66)}, "orphan": {"a/b": b"1"},
    "reserved": {".zr": None, ".zr/manifest.json": b"1"}, "file and folder": {"a": b"1", "a/b": b"1"},
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_hostile_manifests(site, tmp_path, name):
    entries = BAD_MANIFESTS[name]
    pack = compress(archive([member("x", data=b"1")]))
    obj = Sealed(tmp_path / "sealed", pack, manifest(entries, pack))
    status, answer = site.get(obj)
    assert (status, answer["class"]) == (1, "input") and "manifest" in answer["detail"], answer
    site.nothing_visible()


@pytest.mark.parametrize("fields", [{"files": 2}, {"bytes": 0}, {"size": 1 << 62}, {"chunks": []}, {"chunks": ["0" * 64] * 2}])
def test_lying_manifests(site, tmp_path, fields):
    pack = compress(archive([member("x", data=b"1")]))
    obj = Sealed(tmp_path / "sealed", pack, manifest({"x": b"1"}, pack, **fields))
    assert site.get(obj)[1]["class"] == "input"
    site.nothing_visible()


def test_bomb(site, tmp_path):
    """A small pack of 300 MB of zeros: with an honest manifest it is over the limit, with a lying one it is malformed."""
    data = bytes(300 << 20)
    pack = compress(archive([member("zeros", data=data)]))
    assert len(pack) < 1 << 20
    honest = Sealed(tmp_path / "honest", pack, manifest({"zeros": (len(data), sha256(data))}, pack))
    assert site.get(honest, None, None, "--limit-bytes", "200M")[1]["class"] == "input"
    lying = Sealed(tmp_path / "lying", pack, manifest({"zeros": (5, sha256(b"12345"))}, pack))
    assert site.get(lying)[1]["class"] == "input"
    site.nothing_visible()
    assert site.get(honest)[0] == 0


def test_sparse_bomb(site, tmp_path):
    """GNU's sparse form claims a terabyte in one block."""
    info, data = member("hole", data=b"x" * 512)
    tar = bytearray(archive([(info, data)]))
    tar[156:157] = b"S"
    tar[386:398], tar[398:410] = b"00000000000\0", b"00000001000\0"
    tar[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    tar[148:156] = b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])
    pack = compress(bytes(tar))
    obj = Sealed(tmp_path / "sealed", pack, manifest({"hole": (1 << 40, "0" * 64)}, pack))
    assert site.get(obj, None, None, "--limit-bytes", "10T")[1]["class"] in ("input", "host")
    site.nothing_visible()


def test_million_entries_are_over_the_limit(site, tmp_path):
    pack = compress(archive([]))
    obj = Sealed(tmp_path / "sealed", pack, manifest({f"f{i}": (0, "0" * 64) for i in range(100001)}, pack))
    status, answer = site.get(obj)
    assert (status, answer["class"]) == (1, "input") and "more than 100000 entries" in answer["detail"]


def test_another_kind_of_object(site, plain):
    answer = site.get(plain, name="submission")[1]
    assert answer["class"] == "input" and "is a 'result', not a 'submission'" in answer["detail"]


def test_disk_is_nearly_full(site, plain):
    status, answer = site.get(plain, None, None, "--reserve", "1000000G")
    assert (status, answer["class"]) == (75, "host") and "bytes free" in answer["detail"]
    site.nothing_visible()


LIES = {
    "size": ({"size": 1 << 50}, "input"),
    "not a file": ({"mode": 0o40755}, "input"),
    "endless manifest": ({"endless": "manifest.json"}, "input"),
    "endless pack": ({"endless": "result.tar.zst"}, "changed"),
    "short reads": ({"short": "result.tar.zst"}, "transient"),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_sftp_server(site, tmp_path, name):
    lies, want = LIES[name]
    obj = seal(tmp_path / "sealed", {"x": os.urandom(300000)})
    with Sshd(tmp_path / "keys", host_key="ecdsa") as keys, SftpServer(keys.host_key, keys.user_key, **lies) as server:
        keys.trust(server.port)
        status, answer = site.get(obj, keys.url(obj.dir, server.port), keys, "--stall", "5s")
    assert answer["ok"] is False and answer["class"] == want, answer
    site.nothing_visible(kept=True)


# --- confinement ---

@pytest.fixture(scope="module")
def taken_over(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("preload") / "taken_over.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", os.path.join(ROOT, "test/fake/taken_over.c"), "-o", out], check=True)
    return out


@pytest.mark.parametrize("what,end", [("read", 101), ("key", 101), ("write", 101), ("code", 101), ("link", 101), ("setuid", 101),
                                      ("exec", -signal.SIGSYS), ("fork", -signal.SIGSYS), ("socket", -signal.SIGSYS),
                                      ("ptrace", -signal.SIGSYS)])
def test_taken_over_fetcher(site, sshd, plain, taken_over, what, end):
    if ASAN:
        # The sanitizer needs what the confinement takes away: then it must be said that there is none.
        r = subprocess.run(site.argv(plain, plain.dir, None, "--verbose"), capture_output=True, text=True)
        assert r.returncode == 0 and "not confined: anything" in r.stderr
        return
    env = {"PATH": os.environ["PATH"], "LD_PRELOAD": taken_over, "TAKEN_OVER": what, "TAKEN_OVER_KEY": sshd.user_key,
           "TAKEN_OVER_STAGING": site.staging + "/link"}
    r = subprocess.run(site.argv(plain, sshd.url(plain.dir), sshd), stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=60)
    assert r.returncode == end, r
    assert not os.path.exists("/tmp/zr-taken-over")


# --- server mode ---

class Server:
    def __init__(self, site, server, kind=socket.SOCK_SEQPACKET, *more):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self.sock.settimeout(60)
        high = fcntl.fcntl(theirs, fcntl.F_DUPFD, 10)
        argv = ["bash", "-c", f'exec "$@" 3<&{high}-', "bash", FETCH, "--serve", "--staging", site.staging, "--root", site.path("results"),
                "--ssh-key", server.user_key, "--known-hosts", server.known_hosts, *more]
        self.process = subprocess.Popen(argv, pass_fds=[high], stdin=subprocess.DEVNULL)
        os.close(high)
        theirs.close()
        self.buffer = b""

    def send(self, **command):
        self.sock.send(json.dumps(command).encode() + b"\n")

    def answer(self):
        while True:
            while b"\n" not in self.buffer:
                data = self.sock.recv(1 << 20)
                assert data, "zr-fetch has ended"
                self.buffer += data
            line, _, self.buffer = self.buffer.partition(b"\n")
            answer = json.loads(line)
            if "progress" not in answer:
                return answer

    def pull(self, server, obj, target, id=1, **more):
        command = {"op": "pull", "id": id, "host": {"address": "127.0.0.1", "port": server.port, "user": server.user},
                   "remote_dir": obj.dir, "root_hash": obj.root, "name": "result", "target": target}
        command.update(more)
        self.send(**command)
        return self.answer()

    def close(self):
        self.sock.close()
        return self.process.wait(20)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_server_keeps_its_session(site, tmp_path, plain, kind):
    with Sshd(tmp_path / "sshd") as server:
        s = Server(site, server, kind)
        for n in range(5):
            answer = s.pull(server, plain, site.path(f"results/{n}/1"), id=n)
            assert answer["ok"] and answer["id"] == n, answer
            assert tree(site.path(f"results/{n}/1"))[".zr/manifest.json"] == plain.text
        assert s.close() == 0
        with open(server.path("log")) as f:
            assert f.read().count("Accepted publickey") == 1


def test_server_survives_a_restart_of_sshd(site, tmp_path, plain):
    server = Sshd(tmp_path / "sshd")
    s = Server(site, server)
    for n in range(3):
        with server:
            assert s.pull(server, plain, site.path(f"results/{n}/1"))["ok"]
            # The session's own process outlives its listener.
            subprocess.run(["pkill", "-KILL", "-g", str(os.getpgid(server.process.pid))], check=False)
    assert s.close() == 0


def test_server_refuses_bad_commands(site, sshd, plain):
    s = Server(site, sshd)
    for line in (b"{", b"[]", b'{"op":"remove"}', b'{"op":"pull"}', b'{"op":"pull","op":"pull"}'):
        s.sock.send(line + b"\n")
        answer = s.answer()
        assert answer["ok"] is False and answer["class"] == "input", answer
    for more in ({"target": site.path("elsewhere")}, {"target": site.path("results/../x")}, {"root_hash": "sha256:00"}, {"name": "a/b"},
                 {"target": site.path("results") + "/"}, {"target": site.path("results2/x")}):
        answer = s.pull(sshd, plain, site.path("results/1/1"), **more) if "target" not in more else \
            s.pull(sshd, plain, more["target"])
        assert answer["ok"] is False and answer["class"] == "input", (more, answer)
    assert s.pull(sshd, plain, site.path("results/1/1"))["ok"]
    other = s.pull(sshd, plain, site.path("results/1/2"), host={"address": "127.0.0.1", "port": 1, "user": "x"})
    assert other["ok"] is False and "talks to" in other["detail"]
    assert s.close() == 0


def test_server_limits(site, sshd, plain):
    s = Server(site, sshd)
    answer = s.pull(sshd, plain, site.path("results/1/1"), limits={"bytes": 100})
    assert (answer["class"], answer["id"]) == ("input", 1)
    assert s.pull(sshd, plain, site.path("results/1/1"), limits={"bytes": 100000, "entries": 50})["ok"]
    assert s.close() == 0


def test_server_ends_with_its_caller(site, sshd, big):
    with Proxy(sshd.port, stall_after=6 << 20) as proxy:
        sshd.trust(proxy.port)
        s = Server(site, sshd)
        s.send(op="pull", id=1, host={"address": "127.0.0.1", "port": proxy.port, "user": sshd.user}, remote_dir=big.dir,
               root_hash=big.root, target=site.path("results/1/1"))
        wait_for(lambda: proxy.bytes > 5 << 20, 30)
        start = time.monotonic()
        s.close()
        assert time.monotonic() - start < 10
    assert not os.path.exists(site.path("results/1/1"))


def test_server_shows_progress(site, sshd, big):
    with Proxy(sshd.port, rate=20 << 20) as proxy:
        sshd.trust(proxy.port)
        s = Server(site, sshd)
        s.send(op="pull", id="x", host={"address": "127.0.0.1", "port": proxy.port, "user": sshd.user}, remote_dir=big.dir,
               root_hash=big.root, target=site.path("results/1/1"))
        seen = []
        while True:
            line = json.loads(s.sock.recv(1 << 20))
            if "ok" in line:
                break
            seen.append(line)
        assert line["ok"] and all(p["id"] == "x" and p["total"] == os.path.getsize(big.pack_path) for p in seen)
        assert len(seen) >= 2 and [p["progress"] for p in seen] == sorted(p["progress"] for p in seen)
        s.close()


# --- the other direction ---

def _push(transfer, sshd, obj, parent):
    return subprocess.run([transfer, "push", obj.dir, "127.0.0.1", str(sshd.port), sshd.user, sshd.user_key, sshd.known_hosts, parent],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_push(transfer, sshd, site, tmp_path):
    obj = seal(tmp_path / "sealed", {"code.c": b"int main(void){}", "data": os.urandom(9 << 20)}, name="submission")
    incoming = str(tmp_path / "incoming")
    r = _push(transfer, sshd, obj, incoming)
    folder = os.path.join(incoming, obj.root.split(":")[1])
    assert (r.returncode, r.stdout) == (0, folder + " new\n"), r
    assert sorted(os.listdir(incoming)) == [os.path.basename(folder)]
    assert site.get(obj, folder)[0] == 0
    assert _push(transfer, sshd, obj, incoming).stdout == folder + " already\n"


def test_push_where_nothing_may_be_written(transfer, sshd, plain, tmp_path):
    obj = seal(tmp_path / "sealed2", {"a": b"1"}, name="submission")
    r = _push(transfer, sshd, obj, "/proc/incoming")
    assert r.returncode == 1 and "make folder" in r.stderr


def test_scan(transfer, sshd, tmp_path):
    def scan(known_hosts):
        return subprocess.run([transfer, "scan", "127.0.0.1", str(sshd.port), known_hosts], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60).stdout.split()
    assert scan(sshd.known_hosts) == ["ssh-ed25519", fingerprint(sshd.host_key), "0"]
    (tmp_path / "none").write_text("\n")
    assert scan(str(tmp_path / "none"))[2] == str(-126)


# --- calls ---

@pytest.mark.parametrize("argv", [[], ["--get", "x"], ["--serve"], ["--bad"], ["--get"], ["x"], ["--stall", "soon"], ["--serve", "--get", "x"]])
def test_wrong_calls(argv):
    r = subprocess.run([FETCH, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 2 and r.stdout == "" and r.stderr.startswith("zr-fetch: ")


@pytest.mark.parametrize("source", ["ssh://host/x", "ssh://user@host", "ssh://user@:22/x", "ssh://user@host:0/x", "ssh://user@[::1/x"])
def test_bad_sources(site, plain, source):
    r = subprocess.run(site.argv(plain, source), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 2 and "is not ssh://" in r.stderr


def test_help():
    r = subprocess.run([FETCH, "--help"], capture_output=True, text=True)
    assert r.returncode == 0 and "usage:" in r.stdout and "Example" in r.stdout


# --- a folder of published objects is kept small ---

class Shelf:
    """Objects of about 100 KB, named by a letter, the first of them the one that was not used for the longest time."""

    def __init__(self, folder, letters):
        self.dir = str(folder)
        for i, letter in enumerate(letters):
            os.makedirs(self.path(letter, "deep/er"))
            with open(self.path(letter, "deep/er/file"), "wb") as f:
                f.write(b"x" * 100_000)
            os.utime(self.path(letter), (1000 + i, 1000 + i))

    def path(self, letter, *below):
        return os.path.join(self.dir, letter * 64, *below)

    def left(self):
        return "".join(sorted(name[0] for name in os.listdir(self.dir) if len(name) == 64))

    def prune(self, size, *more, **kw):
        argv = [FETCH, "--prune", self.dir, "--limit-bytes", size, *more]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, **kw)


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path):
    shelf = Shelf(tmp_path, "abcd")
    os.makedirs(shelf.path("c")[:-1])  # not an object's name
    os.utime(shelf.path("a"))
    r = shelf.prune("250K")
    assert r.returncode == 0, r.stderr
    answer = json.loads(r.stdout)
    assert shelf.left() == "ad" and answer["objects"] == 2 and answer["removed"] == 2
    assert answer["bytes"] <= 250 << 10 and answer["removed_bytes"] >= 200_000
    assert os.path.isdir(shelf.path("c")[:-1]) and os.listdir(os.path.join(shelf.dir, ".gone")) == []
    assert json.loads(shelf.prune("250K").stdout)["removed"] == 0


def test_what_is_kept_or_was_just_used_stays(tmp_path):
    shelf = Shelf(tmp_path, "abcd")
    r = shelf.prune("1K", "--keep", "b" * 64, "--used-before", "1970-01-01T00:16:43Z")
    assert (r.returncode, shelf.left()) == (0, "bd"), r.stderr


def test_an_object_taken_into_use_meanwhile_stays(tmp_path):
    """The victim is chosen; before it can be moved away its user, who has the lock, says that it is used."""
    shelf = Shelf(tmp_path, "ab")
    with open(os.path.join(shelf.dir, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        pruning = subprocess.Popen([FETCH, "--prune", shelf.dir, "--limit-bytes", "150K"], stdout=subprocess.PIPE, text=True)
        wait_for(lambda: any("->" in line and f" {pruning.pid} " in line for line in open("/proc/locks")), 20, "it to wait for the lock")
        os.utime(shelf.path("a"))
    out, _ = pruning.communicate(timeout=20)
    assert pruning.returncode == 0 and json.loads(out)["removed"] == 1 and shelf.left() == "a"


def test_one_prunes_at_a_time_and_a_killed_one_leaves_nothing(tmp_path):
    shelf = Shelf(tmp_path, "ab")
    os.makedirs(os.path.join(shelf.dir, ".gone", "c" * 64, "x"))
    with open(os.path.join(shelf.dir, ".prune"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        r = shelf.prune("1K")
        assert (r.returncode, shelf.left()) == (0, "ab"), r.stderr
    assert json.loads(shelf.prune("1G").stdout)["removed"] == 0
    assert os.listdir(os.path.join(shelf.dir, ".gone")) == []


@pytest.mark.parametrize("more", [(), ("--limit-bytes", "x"), ("--limit-bytes", "1K", "--used-before", "noon"),
                                  ("--limit-bytes", "1K", "--serve")])
def test_wrong_calls_of_prune(tmp_path, more):
    r = subprocess.run([FETCH, "--prune", str(tmp_path), *more], capture_output=True, text=True, timeout=20)
    assert r.returncode == 2 and r.stderr
