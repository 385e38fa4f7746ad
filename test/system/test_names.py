# SPDX-License-Identifier: MIT
"""Host names: servers are found by them, and a name server that does not answer holds up nothing."""
import os
import re

import pytest

from lib.nameserver import NameServer
from lib.services import BUILD

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def site(sandbox):
    return sandbox.prepare()


@pytest.fixture
def names(sandbox):
    server = NameServer(sandbox.dir)
    yield server
    server.close()


def named(url, name):
    return re.sub(r"127\.0\.0\.1|localhost", name, url)


def start(box, names, verb, *args, **kw):
    return box.start(*names.wrapped(os.path.join(BUILD, "zr")), verb, *args, name=verb, **kw)


def test_servers_are_found_by_name(site, names):
    names.answers = True
    env = {"AMQP_URL": named(site.env["AMQP_URL"], "broker.zr.test"),
           "DATABASE_URL": named(site.env["DATABASE_URL"], "database.zr.test")}
    start(site, names, "worker:run:eval", env=env)
    start(site, names, "worker:run:update", env=env)
    site.evaluator("noop", "#!/bin/sh\nexit 0\n")
    site.zr("challenges:add", "c", "--evaluator", "noop")
    submission = site.zr_id("submissions:create", "c", os.path.dirname(site.file("s/x", "x")), "--author", "a")
    site.zr("submissions:eval", submission, "--wait")
    assert {"broker.zr.test", "database.zr.test"} <= names.asked


def test_a_worker_ends_while_a_name_server_is_silent(sandbox, names):
    worker = start(sandbox, names, "worker:run:eval", ready=False,
                   env={"AMQP_URL": named(sandbox.env["AMQP_URL"], "silent.zr.test")})
    names.wait_asked("silent.zr.test")
    worker.stop()


def test_an_update_worker_ends_while_a_name_server_is_silent(site, names):
    worker = start(site, names, "worker:run:update", ready=False,
                   env={"DATABASE_URL": named(site.env["DATABASE_URL"], "silent.zr.test")})
    names.wait_asked("silent.zr.test")
    worker.stop()


def test_a_name_that_nobody_knows(sandbox):
    r = sandbox.zr("queues", env={"AMQP_URL": "amqp://u:S3CRET@-x:1/v"}, check=75)
    assert "look up host '-x'" in r.stderr and len(r.stderr.splitlines()) == 1
