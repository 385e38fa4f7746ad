# SPDX-License-Identifier: MIT
"""Fixtures of the system tests.

services     one set of private servers for the whole run, shared by all xdist workers
sandbox      a virtual host, a database, folders and a zr.conf of the test's own on those servers
make_sandbox the same as a function, for several of them or for more hosts
own_services a set of servers for one module, to stop, kill and reconfigure; own_sandbox: a sandbox on it

A failing test keeps its sandbox's folder in build/check/failed and prints its path.
ZR_TEST_SERVICES=DIR uses servers that are already up (scripts/dev up DIR) and leaves them up; with "none" tests that need some are left
out.
"""
import fcntl
import itertools
import os
import re
import shutil
import signal
import sys
import tempfile

import pytest

from lib import gates
from lib.sandbox import KEEP, Sandbox
from lib.services import BUILD, Services

_count = itertools.count()

# A shell without job control starts what runs in the background with SIGINT ignored, and so would be all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# --- the run ---

def pytest_addoption(parser):
    parser.addoption("--stress", type=int, default=0, metavar="N", help="repeat each chosen test N times, stop at the first failure")


def _is_worker(config):
    return hasattr(config, "workerinput")


def _interrupt(_signal, _frame):
    raise KeyboardInterrupt


def pytest_configure(config):
    if config.getoption("--stress"):
        config.option.maxfail = 1
    if _is_worker(config):
        return
    signal.signal(signal.SIGTERM, _interrupt)
    if "ZR_TEST_SERVICES" not in os.environ:
        # The workers inherit the name; the servers start when the first test asks for them.
        config.zr_services = tempfile.mkdtemp(prefix="zr-test.")
        os.environ["ZR_TEST_SERVICES"] = os.path.join(config.zr_services, "services")
        os.environ["ZR_TEST_SERVICES_OURS"] = "1"


def pytest_unconfigure(config):
    folder = getattr(config, "zr_services", None)
    if folder:
        services = os.path.join(folder, "services")
        if os.path.exists(services):
            Services(services).down()
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("ZR_TEST_SERVICES", None)


# The files that take longest come first, or else one worker begins with such a file when the others have nothing left.
LONG = ("test_kinds", "test_messaging", "test_update", "test_leases", "test_job", "test_hosts", "test_faults", "test_evaluators", "test_sandbox",
        "test_dev", "test_box", "test_transfer", "test_gpu_jobs", "test_retries")


def pytest_collection_modifyitems(config, items):
    if os.environ.get("ZR_TEST_SERVICES") == "none":
        out = [item for item in items if {"services", "own_services"} & set(item.fixturenames)]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
    items.sort(key=lambda item: LONG.index(name) if (name := item.module.__name__) in LONG else len(LONG))


def pytest_generate_tests(metafunc):
    n = metafunc.config.getoption("--stress")
    if n:
        metafunc.fixturenames.append("stress_round")
        metafunc.parametrize("stress_round", range(n))


# --- gates ---

def pytest_runtest_setup(item):
    for mark in item.iter_markers("needs"):
        for gate in mark.args:
            if not gates.is_open(gate):
                if gates.must(gate):
                    pytest.fail(f"needs {gate}, which ZR_TEST_MUST promises", pytrace=False)
                pytest.skip(f"needs {gate}")


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and report.when != "teardown":
        item.zr_failed = True


# --- servers ---

def _up_once(folder):
    """The first worker that comes starts the servers, the others wait for it."""
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "ZR_TEST_SERVICES_OURS" in os.environ:
            return Services(folder).up()
        return Services(folder)


@pytest.fixture(scope="session")
def services():
    return _up_once(os.environ["ZR_TEST_SERVICES"])


@pytest.fixture(scope="module")
def own_services():
    folder = tempfile.mkdtemp(prefix="zr-test-own.")
    own = Services(folder).up()
    yield own
    own.down()
    shutil.rmtree(folder, ignore_errors=True)


# --- sandboxes ---

def _sandbox_name(request):
    word = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")[:28]
    return f"{word}-{os.getpid()}-{next(_count)}"


def _maker(request, servers):
    made = []

    def make(hosts=()):
        if not os.path.exists(os.path.join(BUILD, "zr")):
            pytest.fail(f"{BUILD}/zr is not built: run make", pytrace=False)
        box = Sandbox(servers, _sandbox_name(request), hosts)
        made.append(box)
        return box

    yield make
    for box in made:
        keep = os.path.join(KEEP, box.name) if getattr(request.node, "zr_failed", False) else None
        box.close(keep)
        if keep:
            print(f"\nkept: {keep}", file=sys.stderr)


@pytest.fixture
def make_sandbox(request, services):
    yield from _maker(request, services)


@pytest.fixture
def sandbox(make_sandbox):
    return make_sandbox()


@pytest.fixture
def make_own_sandbox(request, own_services):
    yield from _maker(request, own_services)


@pytest.fixture
def own_sandbox(make_own_sandbox):
    return make_own_sandbox()
