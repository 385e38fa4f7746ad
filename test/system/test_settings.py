# SPDX-License-Identifier: MIT
"""zr.conf as an operator meets it."""
import os
import signal


def test_origin_of_each_value_is_told(sandbox):
    sandbox.setting("lease", "45s")
    rows = {r["name"]: r for r in sandbox.zr_json("settings")}
    assert (rows["hostname"]["value"], rows["hostname"]["origin"]) == ("devhost", "file")
    assert (rows["lease"]["value"], rows["lease"]["origin"]) == ("45s", "file")
    assert rows["bin_dir"]["origin"] == "environment" and rows["term_grace"]["origin"] == "default"


def test_what_may_change_is_told(sandbox):
    rows = {r["name"]: r["reload"] for r in sandbox.zr_json("settings")}
    assert rows["log_cap"] and rows["ssh_key"] and not rows["amqp_url"] and not rows["state_dir"]


def test_sighup_takes_over_what_may_change_and_names_the_rest(sandbox):
    sandbox.prepare()
    daemons = [sandbox.eval_worker(), sandbox.update_worker()]
    sandbox.setting("spool_reserve", "200M")
    sandbox.setting("log_cap", "2M")
    sandbox.setting("pool", ["default", "other"])
    for d in daemons:
        d.signal(signal.SIGHUP)
        d.wait_log("new are spool_reserve, log_cap")
        d.wait_log("in force only after a restart: pool")
    sandbox.setting("log_cap", "banana")
    for d in daemons:
        d.signal(signal.SIGHUP)
        d.wait_log("settings stay as they are")
    for d in daemons:
        d.stop()


def test_a_worker_goes_by_the_new_value(sandbox):
    """More than there is must be free: after SIGHUP no work is taken, and after another one it is."""
    sandbox.prepare()
    daemon = sandbox.eval_worker()
    for value, words in (("900T", "less than spool_reserve is free"), ("1M", "there is space again")):
        sandbox.setting("spool_reserve", value)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log(words)
    daemon.stop()


def test_no_secret_is_shown(sandbox):
    password = sandbox.env["AMQP_URL"].split(":")[2].split("@")[0]
    for verb in ("settings", "settings:check"):
        r = sandbox.zr(verb)
        assert password not in r.stdout + r.stderr


def test_the_template_is_a_valid_file(sandbox):
    path = sandbox.file("zr.conf", sandbox.zr("settings:template").stdout)
    sandbox.zr("settings:check", path)


def test_a_mistake_is_named_with_file_and_line(sandbox):
    cases = {"no_such_key = 1\n": ("1", "no_such_key"), "\n\nlease = banana\n": ("3", "lease"), 'host "x" {\n': ("", "}")}
    for text, (line, word) in cases.items():
        path = sandbox.file("bad.conf", text)
        r = sandbox.zr("settings:check", path, check=2)
        assert f"bad.conf:{line}" in r.stderr and word in r.stderr, r.stderr


def test_a_missing_file_is_refused(sandbox):
    r = sandbox.zr("settings", env={"ZR_CONF": os.path.join(sandbox.dir, "nothing.conf")}, check=2)
    assert "nothing.conf" in r.stderr and "no such file" in r.stderr.lower()
