# SPDX-License-Identifier: MIT
"""scripts/dev: what the other tests stand on."""
import os
import signal
import socket
import subprocess
import time

import pika
import psycopg2
import pytest

from lib import processes
from lib.services import DEV, Services
from lib.wait import wait_for

pytestmark = pytest.mark.standalone

def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def servers_of(folder):
    """The living processes of a set, as a stranger finds them: by folder, by environment, by command line."""
    found = processes.working_in(str(folder))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                line = f.read().replace("\0", " ")
        except OSError:
            continue
        if str(folder) in line and processes.alive(pid) and int(pid) != os.getpid():
            found[int(pid)] = line
    return found


def recorded_pids(services):
    pids = {}
    for name in os.listdir(services.dir + "/pid"):
        with open(f"{services.dir}/pid/{name}") as f:
            first = f.read().split(":")[0]
        if first.isdigit():
            pids[name] = int(first)
    return pids


def tree(roots):
    out = list(roots)
    for pid in out:
        out += processes.children(pid)
    return out


def sockets_of(pids):
    """(local address, state) of the TCP sockets that these processes hold."""
    inodes = set()
    for pid in pids:
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        inodes.update(link[8:-1] for link in links if link.startswith("socket:["))
    rows = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as f:
            rows += [(r[1].rpartition(":")[0], r[3]) for r in map(str.split, f) if r[9] in inodes]
    return rows


def shared_memory():
    with open("/proc/sysvipc/shm") as f:
        return [line.split()[1] for line in f]


def ssh(env, key, *words, **kw):
    return subprocess.run(
        ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
         "-o", f'UserKnownHostsFile="{env["ZR_DEV_KNOWN_HOSTS"]}"', "-i", key, "-p", env["ZR_SSH_PORT"],
         f'{env["ZR_DEV_SSH_USER"]}@127.0.0.1', *words], capture_output=True, text=True, timeout=30,
        **{"stdin": subprocess.DEVNULL, **kw})


# --- what a running set looks like ---

def test_all_ready_and_up_again_changes_nothing(own_services):
    before = own_services.status()
    assert {n: s[0] for n, s in before.items()} == dict.fromkeys(Services.NAMES, "ready")
    started = time.monotonic()
    own_services.up()
    assert own_services.status() == before
    assert time.monotonic() - started < 5


def test_env_is_complete_and_survives_eval_twice(own_services):
    lines = own_services.dev("env").stdout
    script = f"set -eu; eval \"$LINES_\"; eval \"$LINES_\"; printf '%s\\n' \"$PATH\" \"$ZR_CONF\" \"$ZR_BIN\" \"$AMQP_URL\" " \
             f"\"$DATABASE_URL\" \"$ZR_SSH_PORT\""
    out = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin", "LINES_": lines}, check=True,
                         capture_output=True, text=True).stdout.splitlines()
    path, conf, bin_dir, amqp, database, port = out
    assert path.endswith("/build:/usr/bin:/bin") and path.count("/build") == 1
    assert conf == own_services.dir + "/zr.conf" and os.stat(conf).st_mode & 0o777 == 0o600
    assert os.access(bin_dir, os.W_OK) and bin_dir.startswith(own_services.dir)
    assert amqp.startswith("amqp://zr:") and database.startswith("postgresql://zr:")
    assert listens(int(port))


def test_every_socket_is_on_loopback(own_services):
    # Hexadecimal, least byte first: 127.0.0.1 and ::1.
    loopback = {"0100007F", "00000000000000000000000001000000"}
    addresses = {a for a, state in sockets_of(tree(recorded_pids(own_services).values())) if state == "0A"}
    assert addresses and addresses <= loopback


def test_secrets_are_closed_to_others(own_services):
    for name in ("dev.state", "zr.conf", "ssh/collect_key", "ssh/shell_key", "ssh/host_key", "rabbitmq/.erlang.cookie"):
        assert os.stat(f"{own_services.dir}/{name}").st_mode & 0o077 == 0, name


def test_database_role_is_not_the_superuser(own_services):
    url = own_services.env()["DATABASE_URL"]
    with psycopg2.connect(url) as c, c.cursor() as q:
        q.execute("select rolsuper from pg_roles where rolname = current_user")
        assert q.fetchall() == [(False,)]
        q.execute("create table t (n int); drop table t")
    head, _, rest = url.partition("zr:")
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        psycopg2.connect(head + "zr:wrong@" + rest.partition("@")[2])


def test_the_collecting_key_gets_sftp_and_nothing_else(own_services):
    env = own_services.env()
    assert ssh(env, env["ZR_DEV_SHELL_KEY"], "echo", "a shell").stdout in ("a shell\n", "")
    assert "a shell" not in ssh(env, env["ZR_DEV_SSH_KEY"], "echo", "a shell").stdout
    forward = ssh(env, env["ZR_DEV_SSH_KEY"], "-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1")
    assert forward.returncode != 0
    sftp = subprocess.run(
        ["sftp", "-q", "-F", "/dev/null", "-b", "-", "-o", f'UserKnownHostsFile="{env["ZR_DEV_KNOWN_HOSTS"]}"',
         "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-i", env["ZR_DEV_SSH_KEY"],
         "-P", env["ZR_SSH_PORT"], env["ZR_DEV_SSH_USER"] + "@127.0.0.1"],
        input=f"ls {own_services.dir}/zr.conf\n", capture_output=True, text=True, timeout=30)
    assert sftp.returncode == 0 and "zr.conf" in sftp.stdout, sftp.stderr


def test_a_changed_host_key_is_refused(own_services, tmp_path):
    env = own_services.env()
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{env['ZR_SSH_PORT']} " + (tmp_path / "other.pub").read_text())
    r = ssh({**env, "ZR_DEV_KNOWN_HOSTS": str(known)}, env["ZR_DEV_SHELL_KEY"], "true")
    assert r.returncode == 255 and "verification failed" in r.stderr


# --- sandboxes ---

def test_sandboxes_do_not_see_each_other(make_sandbox):
    a, b = make_sandbox(), make_sandbox(hosts=["east", "west"])
    a.channel().queue_declare("only-in-a", durable=True)
    with pytest.raises(Exception, match="NOT_FOUND"):
        b.channel().queue_declare("only-in-a", passive=True)
    a.query("create table only_in_a (n int)")
    assert b.query("select to_regclass('only_in_a')") == [(None,)]
    assert len({a.state, b.state, b.hosts["east"]["ZR_CONF"], b.hosts["west"]["ZR_CONF"]}) == 4
    shown = b.run("zr", "settings", "--json", host="east").stdout
    assert '"east"' in shown


def test_a_dropped_sandbox_is_gone(services):
    name = f"drop-{os.getpid()}"
    services.dev("sandbox", name)
    assert services.dev("sandbox", name, check=False).returncode == 1
    services.dev("sandbox-drop", name)
    assert not os.path.exists(f"{services.dir}/sandbox/{name}")
    assert services.dev("psql", "-c", f"select 1 from pg_database where datname = 'sb_{name}'").stdout == ""
    assert services.erl(f'rabbit_vhost:exists(<<"sb.{name}">>).') == "false"
    assert services.dev("sandbox-env", name, check=False).returncode == 2


# --- one service at a time ---

@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("name", Services.NAMES)
def test_a_service_comes_back_on_its_port(own_services, name, how):
    before = own_services.status()
    own_services.dev(how, name)
    during = own_services.status()
    assert during[name][0] == "down" and not listens(before[name][1])
    assert all(during[n] == before[n] for n in Services.NAMES if n != name)
    own_services.start(name)
    after = own_services.status()
    assert after[name][0] == "ready" and after[name][1] == before[name][1] and after[name][2] != before[name][2]


def test_what_was_durable_outlives_a_crash(own_services, make_own_sandbox):
    box = make_own_sandbox()
    box.query("create table kept (n int)")
    box.query("insert into kept values (7)")
    channel = box.channel()
    # A classic queue: a quorum queue younger than two seconds may lose a confirmed message when its broker is killed.
    channel.queue_declare("kept", durable=True)
    channel.basic_publish("", "kept", b"seven", pika.BasicProperties(delivery_mode=2), mandatory=True)
    for name in ("rabbitmq", "postgres"):
        own_services.kill(name)
    own_services.up()
    assert box.query("select n from kept") == [(7,)]

    def kept():
        """It answers while its queues are still coming up."""
        try:
            return box.channel().queue_declare("kept", passive=True).method.message_count
        except pika.exceptions.AMQPError:
            return None
    assert wait_for(kept, 60, "the message to be there") == 1


# --- beginning and end ---

def test_two_sets_side_by_side_and_down_leaves_nothing(own_services, tmp_path):
    """In a folder with a blank in its name, which others may not enter."""
    other_status = own_services.status()
    folder = tmp_path / "a b" / "dev"
    second = Services(folder).up()
    mine = second.status()
    assert {s[1] for s in mine.values()}.isdisjoint({s[1] for s in other_status.values()})
    came = tree(recorded_pids(second).values())
    assert len(came) > 8 and len(servers_of(folder)) >= 4
    second.down()
    assert not [p for p in came if processes.alive(p)]
    assert not servers_of(folder)
    assert not any(listens(s[1]) for s in mine.values())
    assert not folder.exists() and folder.parent.exists()
    assert own_services.status() == other_status
    second.down()


def test_down_after_everything_was_killed(tmp_path):
    one = Services(tmp_path / "dev").up()
    with open(one.dir + "/postgres/data/postmaster.pid") as f:
        segment = f.read().splitlines()[6].split()[1]
    assert segment in shared_memory()
    env = one.env()
    session = subprocess.Popen(["sftp", "-q", "-F", "/dev/null", "-o", f"UserKnownHostsFile={env['ZR_DEV_KNOWN_HOSTS']}",
                                "-i", env["ZR_DEV_SSH_KEY"], "-P", env["ZR_SSH_PORT"], env["ZR_DEV_SSH_USER"] + "@127.0.0.1"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    session.stdin.write("pwd\n")
    session.stdin.flush()
    assert "working directory" in session.stdout.readline() + session.stdout.readline()
    came = tree(recorded_pids(one).values())
    assert came
    for pid in recorded_pids(one).values():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(processes.alive, recorded_pids(one).values())), what="the killed to be dead")
    one.down()
    session.kill()
    session.wait()
    assert not [p for p in came if processes.alive(p)]
    assert segment not in shared_memory()
    assert not (tmp_path / "dev").exists()


def test_up_after_everything_was_killed_keeps_ports(tmp_path):
    one = Services(tmp_path / "dev").up()
    try:
        ports = {n: s[1] for n, s in one.status().items()}
        for pid in recorded_pids(one).values():
            os.kill(pid, signal.SIGKILL)
        one.up()
        assert {n: s[:2] for n, s in one.status().items()} == {n: ("ready", p) for n, p in ports.items()}
    finally:
        one.down()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing(tmp_path, number):
    folder = tmp_path / "dev"
    up = subprocess.Popen([DEV, "up", folder], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          start_new_session=True)
    wait_for(lambda: (folder / "log/rabbitmq.log").exists(), what="the start to be under way")
    os.killpg(up.pid, number)
    assert up.wait(30) == 130, up.stderr.read()
    wait_for(lambda: not servers_of(folder), what="no server to be left")
    assert not folder.exists()


def test_down_after_up_was_killed(tmp_path):
    folder = tmp_path / "dev"
    up = subprocess.Popen([DEV, "up", folder], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: (folder / "log/rabbitmq.log").exists(), what="the start to be under way")
    os.killpg(up.pid, signal.SIGKILL)
    up.wait()
    Services(folder).down()
    wait_for(lambda: not servers_of(folder), what="no server to be left")
    assert not folder.exists()


def test_down_keeps_logs_when_asked(tmp_path):
    one = Services(tmp_path / "dev").up()
    subprocess.run([DEV, "down", "--keep", one.dir], check=True, capture_output=True)
    assert os.listdir(one.dir) == ["log"] and "rabbitmq.log" in os.listdir(one.dir + "/log")


def test_a_server_that_cannot_start_is_shown_and_removed(tmp_path):
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "ssh-keygen").write_text("#!/bin/sh\necho no keys today >&2\nexit 1\n")
    (fake / "ssh-keygen").chmod(0o755)
    r = subprocess.run([DEV, "up", tmp_path / "dev"], env={**os.environ, "PATH": f"{fake}:{os.environ['PATH']}"},
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "sshd did not start" in r.stderr and "no keys today" in r.stderr
    assert not servers_of(tmp_path / "dev")
    assert not (tmp_path / "dev").exists()


# --- refusals ---

def refused(*args):
    r = subprocess.run([DEV, *map(str, args)], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert r.returncode == 2 and len(r.stderr.splitlines()) == 1, r
    return r.stderr


def test_refusals_name_the_cure(tmp_path):
    (tmp_path / "something").touch()
    assert "holds something else" in refused("up", tmp_path)
    assert os.listdir(tmp_path) == ["something"]
    assert "must not hold" in refused("up", tmp_path / 'a"b')
    assert "scripts/dev up" in refused("env", tmp_path / "nothing")
    assert "--help" in refused("dance", tmp_path)
    assert "needs a folder" in refused("up")


def test_down_of_nothing_is_fine(tmp_path):
    subprocess.run([DEV, "down", tmp_path / "nothing"], check=True, capture_output=True)
