# SPDX-License-Identifier: MIT
"""zr evaluators, evaluators:check, evaluators:discover on a bin folder of their own; no server is needed."""
import json
import os
import subprocess

import pytest

from lib.services import BUILD


@pytest.fixture
def zr(tmp_path):
    binf = tmp_path / "bin"
    (binf / "good").mkdir(parents=True)
    (binf / "broken").mkdir()
    for name in ("bare", "good/run.sh"):
        (binf / name).write_text("#!/bin/sh\n")
        (binf / name).chmod(0o755)
    (binf / "good/evaluator.conf").write_text('description = "a good one"\nrun = "run.sh -x"\nisolation = "none"\npids = 5\n')
    (binf / "broken/evaluator.conf").write_text("# comment\nrun = gone.sh\n")
    (binf / "README.md").write_text("not an evaluator\n")
    os.symlink("/bin/sh", binf / "link")
    (tmp_path / "zr.conf").write_text(f'bin_dir = "{binf}"\nstate_dir = "{tmp_path}/state"\n')

    def run(*args, status=0):
        r = subprocess.run([os.path.join(BUILD, "zr"), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                           env={"ZR_CONF": str(tmp_path / "zr.conf"), "PATH": "/usr/bin:/bin"})
        assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
        return r
    run.bin = str(binf)
    run.dir = tmp_path
    return run


@pytest.mark.parametrize("verb", ["evaluators", "evaluators:discover"])
def test_list(zr, verb):
    rows = {r["name"]: r for r in json.loads(zr(verb, "--json").stdout)}
    assert list(rows) == ["bare", "broken", "good", "link"]
    assert rows["good"]["description"] == "a good one" and rows["good"]["limits"]["pids"] == 5 and rows["good"]["phases"] == ["run"]
    assert rows["bare"]["isolation"] == "none" and rows["bare"]["bare"]
    assert "evaluator.conf:2: run: program 'gone.sh'" in rows["broken"]["error"] and "symbolic link" in rows["link"]["error"]


def test_check(zr):
    r = zr("evaluators:check", zr.bin + "/good")
    assert r.stdout.startswith(zr.bin + "/good/evaluator.conf: ok\n") and f"{zr.bin}/good/run.sh -x SUBMISSION" in r.stdout
    r = zr("evaluators:check", zr.bin + "/broken", status=1)
    assert r.stderr.startswith(zr.bin + "/broken/evaluator.conf:2: ") and r.stderr.count("\n") == 1
    assert zr("evaluators:check", zr.bin + "/bare").stdout.startswith(zr.bin + "/bare: ok\n")
    assert "symbolic link" in zr("evaluators:check", zr.bin + "/link", status=1).stderr
    zr("evaluators:check", zr.bin + "/nothing", status=1)
    zr("evaluators:check", status=2)


def test_discover_an_unknown_host(zr):
    r = zr("evaluators:discover", "nowhere", status=2)
    assert "has no section 'host \"nowhere\"'" in r.stderr


def test_discover_without_the_key_names_the_key(zr):
    with open(zr.dir / "zr.conf", "a") as f:
        f.write(f'ssh_key = "{zr.dir}/no-key"\nhost "oberon" {{ address = "127.0.0.1" }}\n')
    r = zr("evaluators:discover", "oberon", status=2)
    assert f"private key: open {zr.dir}/no-key: No such file" in r.stderr and "null" not in r.stderr


def test_what_this_host_cannot_run_is_named(zr):
    with open(zr.bin + "/good/evaluator.conf", "a") as f:
        f.write('arch = "pdp11"\n')
    r = zr("evaluators:check", zr.bin + "/good", status=1)
    assert "ok\n" not in r.stdout and "this host cannot run it" in r.stderr and "pdp11" in r.stderr
    rows = {row["name"]: row for row in json.loads(zr("evaluators", "--json").stdout)}
    assert "pdp11" in rows["good"]["error"] and "error" not in rows["bare"]
