# SPDX-License-Identifier: MIT
"""make install into a folder: what is there, with which modes, and do the units hold?"""
import os
import re
import stat
import subprocess
import time

import pytest

from lib.services import BUILD

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNITS = ("zr-boxes.service", "zr-eval.service", "zr-update.service")


def install(**env):
    subprocess.run([os.path.join(ROOT, "scripts/install")], check=True, capture_output=True, text=True,
                   env={"PATH": os.environ["PATH"], "BUILD": os.path.realpath(BUILD), **{k: str(v) for k, v in env.items()}})


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    install(DESTDIR=root)
    return root


def test_what_is_where(tree):
    programs = sorted(p.name for p in (tree / "usr/bin").iterdir())
    assert programs == sorted(os.listdir(os.path.join(ROOT, "cmd")))
    for path in ("usr/lib/zr/bin/hello", "usr/lib/zr/bin/c-kernel/evaluator.conf", "usr/share/man/man1/zr.1",
                 "usr/share/man/man5/zr.conf.5", "usr/share/man/man8/zr-box.8", "usr/share/bash-completion/completions/zr",
                 "usr/lib/sysusers.d/zr.conf", "usr/lib/tmpfiles.d/zr.conf", "etc/zr/zr.conf", "etc/zr/conf.d",
                 "usr/share/doc/zr/LICENSE", "usr/share/doc/zr/examples/zr.conf", *(f"usr/lib/systemd/system/{u}" for u in UNITS)):
        assert (tree / path).exists(), path
    assert not list(tree.rglob("*.pyc")) and not list(tree.rglob("__pycache__"))


def test_modes(tree):
    for path in tree.rglob("*"):
        mode, name = path.lstat().st_mode, str(path.relative_to(tree))
        assert not stat.S_ISLNK(mode), f"{name} points into the build tree"
        want = (0o640,) if name == "etc/zr/zr.conf" else (0o755,) if stat.S_ISDIR(mode) else (0o755, 0o644)
        assert stat.S_IMODE(mode) in want, f"{name} {mode:o}"
    for name in ("usr/bin/zr-box", "usr/lib/zr/bin/hello"):
        assert os.access(tree / name, os.X_OK)


def test_installed_programs_find_each_other(tree):
    env = {"ZR_CONF": str(tree / "etc/zr/zr.conf"), "ZR_BIN": str(tree / "usr/lib/zr/bin"), "AMQP_URL": "amqp://127.0.0.1/"}
    r = subprocess.run([tree / "usr/bin/zr", "evaluators", "--json"], env=env, capture_output=True, text=True)
    assert r.returncode == 0 and "c-kernel" in r.stdout, r.stderr
    r = subprocess.run([tree / "usr/bin/zr-eval", "--check"], env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


def test_old_pushed_submissions_are_removed(tree, tmp_path):
    incoming = tmp_path / "var/lib/zr/incoming"
    for name, age in (("old", 40), ("new", 1)):
        (incoming / name).mkdir(parents=True)
        (incoming / name / "pack").touch()
        for path in (incoming / name / "pack", incoming / name):
            os.utime(path, (time.time() - age * 86400,) * 2)
    subprocess.run(["systemd-tmpfiles", "--clean", f"--root={tmp_path}", tree / "usr/lib/tmpfiles.d/zr.conf"])
    assert [p.name for p in incoming.iterdir()] == ["new"]


def test_settings_of_an_operator_survive(tmp_path):
    conf = tmp_path / "etc/zr/zr.conf"
    install(DESTDIR=tmp_path)
    conf.write_text("lease = 30s\n")
    conf.chmod(0o600)
    install(DESTDIR=tmp_path)
    assert conf.read_text() == "lease = 30s\n" and stat.S_IMODE(conf.stat().st_mode) == 0o600


def test_another_prefix(tmp_path):
    install(DESTDIR=tmp_path, PREFIX="/opt/zr", UNITDIR="/etc/systemd/system")
    assert 'bin_dir = "/opt/zr/lib/zr/bin"\n' in (tmp_path / "etc/zr/zr.conf").read_text()
    for unit in UNITS:
        text = (tmp_path / "etc/systemd/system" / unit).read_text()
        assert "ExecStart=/opt/zr/bin/zr-" in text and "/usr/bin/zr" not in text


def test_units_are_valid(tmp_path):
    install(PREFIX=tmp_path / "usr", SYSCONFDIR=tmp_path / "etc")
    units = [str(tmp_path / "usr/lib/systemd/system" / u) for u in UNITS]
    r = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    ours = [line for line in (r.stdout + r.stderr).splitlines() if "zr-" in line]
    assert r.returncode == 0 and not ours, r.stdout + r.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_what_the_table_says(unit):
    with open(os.path.join(ROOT, "conf/systemd/README.md")) as f:
        said = float(re.search(rf"^\| `{re.escape(unit)}` \| ([0-9.]+) \|", f.read(), re.M).group(1))
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", os.path.join(ROOT, "conf/systemd", unit)],
                       capture_output=True, text=True)
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", r.stdout).group(1)) <= said, r.stdout
