# SPDX-License-Identifier: MIT
"""The shipped units under a real systemd, with real evaluations in sandboxes. For scripts/uml --systemd alone: it installs zr, makes
its user and starts services. The tests share the machine and follow each other."""
import grp
import json
import os
import pwd
import re
import signal
import subprocess
import uuid

import pytest

from lib.boxes import alive
from lib.services import BUILD, ROOT
from lib.wait import wait_for

PREFIX, UNITS = "/opt/zr", "/etc/systemd/system"
ZR = PREFIX + "/bin/zr"
CHANNEL = "/var/channel"
EVALUATORS = PREFIX + "/lib/zr/bin"
SLICE = "/sys/fs/cgroup/zr.slice"
BOXES = SLICE + "/zr-boxes.service"
# Until somebody lets it go. Its own folder is the one place of the host that it sees and that we can write.
HOLD = """#!/bin/sh
until [ -e "$ZR_EVALUATOR/go-$ZR_EVALUATION_ID" ]; do sleep 0.1; done
echo '{"score": 7}' >"$ZR_OUTPUT/scores.json"
"""
CONF = """isolation = sandbox
run = run.sh
memory = 64M
pids = 16
disk = 1M
wall_limit = 600s
"""

pytestmark = pytest.mark.skipif(os.readlink("/proc/1/exe") != "/usr/lib/systemd/systemd" or not os.path.exists("/run/zr-uml"),
                                reason="only in scripts/uml --systemd")


def run(*argv, check=True, timeout=120):
    r = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    assert not check or r.returncode == 0, f"{argv}: {r.returncode}\n{r.stdout}{r.stderr}"
    return r


def systemctl(*args, **kw):
    return run("systemctl", *args, **kw)


def show(unit, name):
    return systemctl("show", "-P", name, unit).stdout.strip()


def main_pid():
    return int(show("zr-eval", "MainPID"))


def journal(unit):
    return run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout


def as_zr(*argv, **kw):
    return run("setpriv", "--reuid=zr", "--regid=zr", "--clear-groups", *argv, **kw)


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)


def install():
    subprocess.run([ROOT + "/scripts/install"], check=True, capture_output=True,
                   env={"PATH": os.environ["PATH"], "BUILD": BUILD, "PREFIX": PREFIX, "UNITDIR": UNITS})


def drop_in(unit, text):
    """What an operator writes with systemctl edit."""
    write(f"{UNITS}/{unit}.service.d/test.conf", "[Service]\n" + text)


@pytest.fixture(scope="module")
def host():
    """zr, installed and set up as the README says, with a folder as channel."""
    install()
    run("systemd-sysusers", PREFIX + "/lib/sysusers.d/zr.conf")
    # Of what ends here nobody makes a next attempt, which would take the only place.
    with open("/etc/zr/zr.conf", "a") as f:
        f.write(f'channel = "dir:{CHANNEL}"\nhostname = "oberon"\ninfrastructure_retries = 0\n')
    run("systemd-tmpfiles", "--create", PREFIX + "/lib/tmpfiles.d/zr.conf")
    user = pwd.getpwnam("zr")
    os.makedirs(CHANNEL)
    os.chown(CHANNEL, user.pw_uid, user.pw_gid)
    write(EVALUATORS + "/hold/run.sh", HOLD, 0o755)
    write(EVALUATORS + "/hold/evaluator.conf", CONF)
    write("/var/submission/answer", "hello\n")
    drop_in("zr-eval", f"ReadWritePaths={CHANNEL}\nTimeoutStopSec=4\nWatchdogSec=3\nRestartSec=1\n")
    systemctl("daemon-reload")
    yield
    systemctl("stop", "zr-boxes", "zr-eval", check=False)


# --- evaluations ---

def submit(evaluation, evaluator="hold"):
    as_zr(ZR, "channel:submit", CHANNEL, evaluator, "/var/submission", "--evaluation", evaluation)


def events(evaluation, *kinds):
    found = []
    folder = CHANNEL + "/events"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not name.startswith("."):
            with open(os.path.join(folder, name)) as f:
                found.append(json.load(f))
    return [e for e in found if e["evaluation"] == evaluation and (not kinds or e["kind"] in kinds)]


def ends(evaluation):
    return events(evaluation, "completed", "failed", "canceled")


def boxes():
    return [d for d in os.listdir(BOXES) if d.startswith("zr-")] if os.path.isdir(BOXES) else []


class Running:
    """An evaluation that runs until go(), with the group of its box."""

    def __init__(self, name):
        self.name = name
        before = set(boxes())
        submit(name)
        wait_for(lambda: events(name, "started"), 40, f"{name} to run")
        self.group = os.path.join(BOXES, *(set(boxes()) - before))
        self.pids = wait_for(lambda: len(p := self.read("cgroup.procs").split()) >= 2 and [int(x) for x in p], 20, "its processes")

    def read(self, name):
        with open(os.path.join(self.group, name)) as f:
            return f.read().strip()

    def goes_on(self):
        # The script starts sleeps, all else stays.
        return alive(self.pids[0]) and alive(self.pids[1]) and not ends(self.name)

    def go(self):
        write(f"{EVALUATORS}/hold/go-{self.name}", "")

    def wait_completed(self):
        e = wait_for(lambda: ends(self.name), 40, f"{self.name} to end")
        assert len(e) == 1 and e[0]["kind"] == "completed" and e[0]["body"]["scores"] == {"score": 7} and e[0]["attempt"] == 1, e
        assert not os.path.exists(self.group)
        return e[0]


@pytest.fixture
def worker(host):
    """zr-eval is up, and ready, when this returns."""
    systemctl("reset-failed", check=False)
    systemctl("start", "zr-eval")
    return main_pid()


# --- the tests ---

def test_users_and_folders(host):
    for path, mode, owner, group in (("/run/zr", 0o750, "zr", "zr"), ("/run/lock/zr", 0o750, "zr", "zr"), ("/var/lib/zr", 0o750, "zr", "zr"),
                                     ("/etc/zr", 0o750, "root", "zr"), ("/etc/zr/zr.conf", 0o640, "root", "zr")):
        s = os.stat(path)
        assert (s.st_mode & 0o7777, pwd.getpwuid(s.st_uid).pw_name, grp.getgrgid(s.st_gid).gr_name) == (mode, owner, group), path


def test_an_evaluation_in_its_groups(worker):
    assert show("zr-eval", "ActiveState") == show("zr-boxes", "ActiveState") == "active"
    job = Running("first")
    assert job.read("memory.max") == str(64 << 20) and job.read("pids.max") == "17" and job.read("memory.swap.max") in ("0", "")
    assert job.read("memory.oom.group") == "1"
    with open(BOXES + "/keepers/cgroup.procs") as f:
        keepers = f.read().split()
    assert [open(f"/proc/{p}/comm").read() for p in keepers] == ["zr-box\n"]
    uid = pwd.getpwnam("zr").pw_uid
    assert {os.stat(f"/proc/{p}").st_uid for p in job.pids} <= {uid, 0}
    job.go()
    isolation = job.wait_completed()["body"]["isolation"]
    assert isolation["level"] == "sandbox" and isolation["privilege"] == "userns-single"
    assert {"cgroup2.kill", "cgroup2.memory", "cgroup2.pids", "pidns", "netns", "seccomp"} <= set(isolation["mechanisms"])
    assert not boxes()


def test_restart(worker):
    job = Running("restarted")
    nobodys = f"{BOXES}/zr-{uuid.uuid4()}"
    os.mkdir(nobodys)
    systemctl("restart", "zr-eval")
    assert main_pid() != worker and job.goes_on()
    wait_for(lambda: not os.path.exists(nobodys), 10, "the group that is nobody's to be swept")
    job.go()
    job.wait_completed()


def test_kill(worker):
    job = Running("killed")
    systemctl("kill", "-s", "KILL", "--kill-who=main", "zr-eval")
    wait_for(lambda: show("zr-eval", "ActiveState") == "active" and main_pid() not in (0, worker), 40, "systemd to start it again")
    assert job.goes_on()
    job.go()
    job.wait_completed()


def test_limits_survive_a_reload_of_systemd(worker):
    job = Running("reloaded")
    files = ("memory.max", "pids.max", "memory.oom.group")
    before = [job.read(f) for f in files]
    systemctl("daemon-reload")
    assert [job.read(f) for f in files] == before and job.goes_on()
    job.go()
    job.wait_completed()


def test_stop_and_adoption(worker):
    """What ends while no worker is there is reported by the next."""
    job = Running("stopped")
    systemctl("stop", "zr-eval")
    assert show("zr-eval", "Result") == "timeout" and job.goes_on()  # of draining
    job.go()
    wait_for(lambda: not os.path.exists(job.group), 30, "its end")
    assert not ends(job.name)
    systemctl("start", "zr-eval")
    job.wait_completed()


def test_drain(worker):
    """A stop waits for what ends in time."""
    job = Running("drained")
    stop = subprocess.Popen(["systemctl", "stop", "zr-eval"])
    wait_for(lambda: show("zr-eval", "ActiveState") == "deactivating", 20)
    job.go()
    assert stop.wait(60) == 0 and show("zr-eval", "Result") == "success"
    job.wait_completed()


def test_watchdog(worker):
    job = Running("watched")
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: show("zr-eval", "ActiveState") == "active" and main_pid() not in (0, worker), 60, "the watchdog")
    assert "watchdog" in journal("zr-eval").lower() and job.goes_on()
    job.go()
    job.wait_completed()


def test_upgrade(worker):
    """Files are replaced while it runs, then the worker is restarted, the holder is not."""
    job = Running("upgraded")
    holder = show("zr-boxes", "MainPID")
    install()
    write(EVALUATORS + "/hold/run.sh", HOLD, 0o755)
    systemctl("daemon-reload")
    systemctl("restart", "zr-eval")
    assert os.readlink(f"/proc/{main_pid()}/exe") == PREFIX + "/bin/zr-eval" and show("zr-boxes", "MainPID") == holder and job.goes_on()
    job.go()
    job.wait_completed()


def test_memory_limit_is_the_kernels(worker):
    write(EVALUATORS + "/hog/run.sh", "#!/bin/sh\nhead -c 300M /dev/zero | tail\nexit 0\n", 0o755)
    write(EVALUATORS + "/hog/evaluator.conf", CONF)
    submit("hog", "hog")
    end = wait_for(lambda: ends("hog"), 60, "the end of the hog")[0]
    assert end["kind"] == "failed" and end["body"]["reason"] == "memory", end


def test_doctor(worker):
    """As the worker's user in the worker's place, and as the operator."""
    place = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--slice=zr.slice", "-p", "User=zr", "-E",
             "ZR_CGROUP_PARENT=/zr.slice/zr-boxes.service")
    for words, privilege in ((place, "userns-single"), ((), "root")):
        lines = {line["check"]: line for line in json.loads(run(*words, ZR, "doctor", "--json", check=False).stdout)}
        assert lines["sandbox"]["status"] == "ok" and lines["sandbox"]["text"].startswith(f"works ({privilege})"), lines
        assert "landlock" in lines["sandbox"]["text"]
        assert lines["cgroup"]["text"] == "version 2, limits of memory and processes" + (", in the group of zr-boxes.service" if not words else "")


def test_stop_of_the_boxes_ends_them(worker):
    job = Running("ended")
    assert job.goes_on()
    systemctl("stop", "zr-boxes")
    assert not [p for p in job.pids if alive(p)] and not os.path.exists(BOXES)
    assert show("zr-eval", "ActiveState") in ("inactive", "failed")  # what had not drained was killed
    # The keeper had the time to say so, and with a broker it is tried again.
    systemctl("start", "zr-eval")
    end = wait_for(lambda: ends("ended"), 60, "its end")
    assert len(end) == 1 and end[0]["kind"] == "failed", end
    assert end[0]["body"]["reason"] == "infrastructure" and end[0]["body"]["detail"] == "the keeper was told to end"


def test_holder_killed(worker):
    """Its boxes end with it, and both units come back by themselves, with groups for the next."""
    job = Running("orphan")
    holder = show("zr-boxes", "MainPID")
    os.kill(int(holder), signal.SIGKILL)
    end = wait_for(lambda: ends("orphan"), 60, "its end")
    assert len(end) == 1 and end[0]["kind"] == "failed" and end[0]["body"]["reason"] in ("lost", "infrastructure"), end
    wait_for(lambda: show("zr-boxes", "ActiveState") == show("zr-eval", "ActiveState") == "active", 30, "both units")
    assert show("zr-boxes", "MainPID") != holder and not [p for p in job.pids if alive(p)]
    after = Running("after")
    with open(BOXES + "/keepers/cgroup.procs") as f:
        assert f.read().split()
    after.go()
    after.wait_completed()


def test_update_waits_for_its_servers(host):
    """Under its unit's filters, with nothing to connect to."""
    drop_in("zr-update", "Environment=AMQP_URL=amqp://127.0.0.1:1/ DATABASE_URL=postgresql://127.0.0.1:1/zr\n")
    systemctl("daemon-reload")
    systemctl("start", "--no-block", "zr-update")
    wait_for(lambda: "127.0.0.1" in journal("zr-update"), 40, "a sentence about the servers")
    assert show("zr-update", "ActiveState") == "activating" and show("zr-update", "NRestarts") == "0"
    systemctl("stop", "zr-update")
    assert show("zr-update", "Result") == "success", journal("zr-update")


@pytest.mark.parametrize("unit", ["zr-boxes", "zr-eval", "zr-update"])
def test_exposure_of_what_is_loaded(host, unit):
    with open(ROOT + "/conf/systemd/README.md") as f:
        said = float(re.search(rf"^\| `{unit}.service` \| ([0-9.]+) \|", f.read(), re.M).group(1))
    seen = run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", seen).group(1)) <= said, seen
