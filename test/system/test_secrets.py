# SPDX-License-Identifier: MIT
"""What a job at level `none` has in common with its worker is the user: it must not find the passwords there."""
import os
import shutil
import subprocess
import tempfile

import pytest

from lib.processes import children, working_in
from lib.services import BUILD
from lib.wait import wait_for

NOBODY = 65534
# A port that refuses: the daemons keep trying, which is all that is asked of them here.
URL = {"zr-eval": {"AMQP_URL": "amqp://u:hunter2@127.0.0.1:1/"},
       "zr-update": {"AMQP_URL": "amqp://u:hunter2@127.0.0.1:1/", "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/d"}}


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def readable(path):
    """Can another process of the same user read it?"""
    r = subprocess.run(["/bin/cat", path], capture_output=True, preexec_fn=as_nobody)
    return r.stdout


@pytest.fixture
def folder():
    """Outside pytest's own, which are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="zr-test-secrets.") as name:
        os.chmod(name, 0o755)
        yield name


@pytest.mark.needs("root")
@pytest.mark.parametrize("program", sorted(URL))
def test_no_password_in_proc(program, folder):
    state, conf, copy = (os.path.join(folder, n) for n in ("state", "zr.conf", program))
    os.mkdir(state)
    os.chown(state, NOBODY, NOBODY)
    with open(conf, "w") as f:
        f.write(f'hostname = "h"\nstate_dir = "{state}"\nrun_dir = "{state}/run"\n')
    shutil.copy(os.path.join(BUILD, program), copy)  # the tree may be closed to others, too
    daemon = subprocess.Popen([copy, f"--conf={conf}"], env=URL[program], preexec_fn=as_nobody, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: len(children(daemon.pid)) == 1, what="a worker")
        assert daemon.stderr.readline()  # "not connected": what it is made of is long there
        for pid in [daemon.pid] + children(daemon.pid):
            for name in ("environ", "mem", "maps", "auxv"):
                assert readable(f"/proc/{pid}/{name}") == b"", f"{program} {pid} {name}"
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stderr.close()
        wait_for(lambda: not working_in(folder), what="the worker's end")
