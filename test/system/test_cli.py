# SPDX-License-Identifier: MIT
"""zr as its users and their scripts see it: help, exit status, JSON, errors. The database is real, the broker unused."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import uuid

import pytest

from lib.cli import ZR, evaluation, event, fresh, submission, why
from lib.sandbox import Sandbox
from lib.services import BUILD, ROOT
from lib.wait import wait_for

KEYS = ["id", "status", "reason", "exit_code", "attempt", "scores", "results", "host", "worker", "created_at", "started_at",
        "finished_at"]


def zr(*args, status=0, env=None, **kw):
    """zr without any server: no settings but those of the call."""
    r = subprocess.run([ZR, *args], env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})},
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **kw)
    assert r.returncode == status, f"{args}: status {r.returncode}, not {status}\n{r.stdout}\n{r.stderr}"
    return r


def verbs():
    return zr("__all_cmd__").stdout.split()


@pytest.fixture(scope="module")
def shared(services):
    box = Sandbox(services, f"cli-{os.getpid()}")
    box.zr("db:migrate")
    yield box
    box.close()


@pytest.fixture
def db(shared):
    """A sandbox with schema and challenge, and nothing else in it."""
    return fresh(shared)


# --- calls that need no server ---

def test_help_of_every_verb():
    listed = zr("--help").stdout
    for verb in verbs():
        assert f"\n  {verb} " in listed
        r = zr(verb, "--help")
        if verb == "worker:run:echo":
            options = re.findall(r"--([a-z-]+)", r.stdout)
            assert {w.strip("-=") for w in zr("__options__", verb).stdout.split()} == set(options) - {"version", "conf"}
            continue
        assert r.stdout.startswith(f"usage: zr {verb}"), verb
        assert re.search(rf"\nexample:\n  .*zr {verb}", r.stdout), verb
        assert not r.stderr


def test_help_and_version_go_to_stdout():
    assert zr("help", "settings").stdout == zr("settings", "--help").stdout
    assert re.fullmatch(r"zr \d+\.\d+\.\d+\n", zr("--version").stdout)
    assert zr("list").stdout == zr("commands").stdout == zr("--help").stdout


CALLS = [
    ([], "which command? see 'zr --help'"),
    (["setings"], "no such command 'setings'; did you mean 'settings'?"),
    (["evaluations:shw", "1"], "did you mean 'evaluations:show'?"),
    (["\x1b[31mred"], r"no such command '\x1b[31mred'"),
    (["settings", "--jsn"], "no such option '--jsn'"),
    (["settings", "x"], "unexpected argument 'x'"),
    (["evaluations:show"], "too few arguments"),
    (["evaluations:show", "-1"], "no such option"),
    (["evaluations:show", "0"], "'0' is no evaluation"),
    (["evaluations:show", "1x"], "'1x' is no evaluation"),
    (["evaluations:show", "99999999999999999999"], "is no evaluation"),
    (["evaluations:show", "1;drop table"], "is no evaluation"),
    (["evaluations:wait", "1", "--state", "done"], "there is no state 'done'"),
    (["evaluations:wait", "1", "--timeout", "soon"], "bad value for --timeout: 'soon'"),
    (["evaluations:wait", "1", "--timeout"], "'--timeout' wants a value"),
    (["evaluations", "--status", "dead"], "bad value for --status: 'dead'"),
    (["evaluations", "--since", "yesterday"], "bad value for --since: 'yesterday'"),
    (["evaluations", "--limit", "0"], "want a --limit of 1"),
    (["evaluations", "--limit", "-1"], "bad value for --limit"),
    (["evaluations:logs", "1", "--stream", "both"], "bad value for --stream: 'both'"),
    (["submissions:create", "demo"], "too few arguments"),
    (["submissions:create", "demo", "x", "--author", ""], "--author: want 1 to 200 bytes"),
    (["submissions:eval", "1", "--pool", "a", "--host", "b"], "--pool and --host exclude each other"),
    (["submissions:eval", "1", "--pool", "../x"], "'../x' cannot name a pool"),
    (["submissions:eval", "1", "--pool", "a.b"], "'a.b' cannot name a pool"),
    (["submissions:eval", "1", "--host", "a b"], "'a b' cannot name a host"),
    (["submissions:eval", "1", "--evaluator", "/bin/sh"], "'/bin/sh' cannot name an evaluator"),
    (["submissions:eval", "1", "--priority", "urgent"], "bad value for --priority: 'urgent'"),
    (["submissions:eval", "1", "-e", "a", "b"], "repeat it"),
    (["submissions:status", "1", "--exclude", "--include"], "exclude each other"),
    (["submissions:delete", "1", "all"], "'all' is no submission"),
    (["challenges:add", "x"], "which evaluator?"),
    (["challenges:add", "--evaluator", "hello"], "which label?"),
    (["challenges:set", "x"], "nothing to change"),
    (["challenges:set", "x", "--active", "--inactive"], "exclude each other"),
    (["worker:run:eval", "-w", "0"], "want 1 to 256 workers"),
    (["--conf", "/nonexistent.conf", "evaluations"], "/nonexistent.conf: no such file"),
    (["--conf=/nonexistent.conf", "settings"], "/nonexistent.conf: no such file"),
]


@pytest.mark.parametrize("args,words", CALLS, ids=[" ".join(a)[:40] or "nothing" for a, _ in CALLS])
def test_wrong_calls(args, words):
    r = zr(*args, status=2)
    assert words in r.stderr and r.stderr.startswith("zr"), r.stderr
    assert r.stderr.count("\n") == 1 and not r.stdout


def test_output_that_is_lost_is_an_error():
    with open("/dev/full", "w") as full:
        r = subprocess.run([ZR, "settings:template"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 1 and "No space left" in r.stderr


def test_manuals_and_sample_match_the_program():
    subprocess.run([os.path.join(ROOT, "scripts/check-conf-docs"), BUILD], check=True, timeout=60)


@pytest.mark.parametrize("line,words", [
    ("zr evaluations:wa", ["watch", "wait"]),
    ("zr submissions:st", ["status"]),
    ("zr challenges --", ["--all", "--json", "--help"]),
    ("zr evaluations:wait 1 --state c", ["created", "completed", "canceled"]),
    ("zr evaluations:wait 1 --state=s", ["stored"]),
    ("zr evaluations --status=e", []),
    ("zr submissions --status e", ["excluded"]),
    ("zr evaluations --st", ["--status="]),
    ("zr help sett", ["settings", "settings:check", "settings:template"]),
    ("zr --conf x settings --", ["--json", "--help"]),
])
def test_completion(line, words):
    assert completed(line) == words


def completed(line, **env):
    script = f""". {ROOT}/conf/completion/zr; compopt() {{ :; }}; COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMP_LINE=$1 COMP_POINT=${{#1}}; _zr; printf '%s\\n' "${{COMPREPLY[@]}}" """
    r = subprocess.run(["bash", "-c", script, "bash", line], capture_output=True, text=True, check=True,
                       env={**env, "PATH": BUILD + ":" + os.environ["PATH"]})
    return r.stdout.split()


def test_completion_knows_what_there_is(db):
    env = {k: v for k, v in db.env.items() if k != "PATH"}
    db.zr("challenges:add", "second", "--evaluator", "hello", "--inactive")
    submission = db.zr_id("submissions:create", "demo", db.file("answers/a", "x"))
    db.file("board.json", '{"label": "top", "challenge": "demo"}')
    db.zr("leaderboards:create", "-f", db.dir + "/files/board.json")
    for line, words in (("zr challenges:set ", ["demo", "second"]), ("zr submissions:create s", ["second"]),
                        ("zr submissions:eval ", [submission]), ("zr evaluations --challenge=d", ["demo"]),
                        (f"zr --conf {db.conf} leaderboards:show ", ["top"]), ("zr evaluations:show ", []),
                        ("zr submissions:eval 1 --evaluator hel", ["hello"]),
                        (f"zr submissions:create demo {db.dir}/files/boa", [db.dir + "/files/board.json"])):
        assert completed(line, **env) == words, line


# --- the database is not as it should be ---

def elsewhere(box, **parts):
    """The sandbox's database URL with another password, port or name."""
    user, password, host, port, name = re.fullmatch(r"postgres(?:ql)?://([^:]+):([^@]+)@([^:]+):(\d+)/(.+)",
                                                    box.env["DATABASE_URL"]).groups()
    p = {"user": user, "password": password, "host": host, "port": port, "name": name, **parts}
    return {"DATABASE_URL": "postgresql://{user}:{password}@{host}:{port}/{name}".format(**p)}


def test_database_down(db):
    r = db.zr("evaluations", env=elsewhere(db, port=1), check=75)
    assert "zr evaluations: " in r.stderr and r.stderr.count("\n") == 1 and not r.stdout


def test_wrong_password_is_not_printed(db):
    for verb in (["evaluations"], ["submissions:status", "1"], ["db:migrate"], ["challenges:add", "x", "--evaluator", "y"]):
        r = db.zr(*verb, env=elsewhere(db, password="s3cret-and-wrong"), check=2)
        assert "database_url" in r.stderr and r.stderr.count("\n") == 1
        assert "s3cret" not in r.stdout + r.stderr
    assert "s3cret" not in db.zr("settings", env=elsewhere(db, password="s3cret-and-wrong")).stdout


def test_wrong_database_name(db):
    r = db.zr("evaluations", env=elsewhere(db, name="nosuch"), check=2)
    assert "nosuch" in r.stderr and r.stderr.count("\n") == 1


def test_no_database_url(db):
    conf = db.file("empty.conf")
    r = db.zr("--conf", conf, "evaluations", env={"DATABASE_URL": ""}, check=2)
    assert "set database_url" in r.stderr


def test_schema_missing_or_of_another_version(sandbox):
    assert "run 'zr db:migrate'" in sandbox.zr("evaluations", check=2).stderr
    sandbox.zr("db:migrate")
    sandbox.zr("evaluations")
    assert "nothing to do" in sandbox.zr("db:migrate").stderr
    sandbox.query("insert into schema_version (version, name, program) values (901, 'future', 'zr 9')")
    r = sandbox.zr("evaluations", check=2)
    assert r.stderr.count("\n") == 1 and "9.01" in r.stderr


# --- challenges ---

def test_challenges(db):
    assert db.zr("challenges:add", "second", "--evaluator", "hello", "--inactive").stdout.split()[0] == "challenge"
    assert [c["label"] for c in db.zr_json("challenges")] == ["demo"]
    assert {c["label"] for c in db.zr_json("challenges", "-a")} == {"demo", "second"}
    db.zr("challenges:set", "second", "--active", "--pool", "hopper", "--description", "x")
    c = db.zr_json("challenges", "second")
    assert c["active"] is True and c["pool"] == "hopper" and c["description"] == "x"
    db.zr("challenges:set", "second", "--pool", "")
    assert db.zr_json("challenges", "second")["pool"] is None
    db.zr("challenges:add", "over", "--evaluator", "hello", "--end", "2020-01-01")
    db.zr("challenges:add", "later", "--evaluator", "hello", "--start", "2999-01-01")
    assert [c["label"] for c in db.zr_json("challenges")] == ["demo", "second"]
    for verb in (["challenges", "nosuch"], ["challenges:set", "nosuch", "--active"]):
        assert "no challenge 'nosuch'" in db.zr(*verb, check=1).stderr
    for args in (["../x", "--evaluator", "hello"], ["x", "--evaluator", "a/b"]):
        assert "letters, digits" in db.zr("challenges:add", *args, check=2).stderr
    assert "already" in db.zr("challenges:add", "demo", "--evaluator", "hello", check=1).stderr


def test_challenge_from_a_file(db):
    definition = {"label": "fromfile", "evaluator": "hello", "args": ["a b", "ü"], "end": "2027-01-01", "pool": "p"}
    db.zr("challenges:add", "-f", db.file("c.json", json.dumps(definition)), "--pool", "q")
    c = db.zr_json("challenges", "fromfile")
    assert c["args"] == ["a b", "ü"] and c["pool"] == "q" and c["end"] == "2027-01-01T00:00:00.000000Z"
    db.zr("challenges:set", "fromfile", "-f", "-", input='{"args": null, "url": "https://x"}')
    assert db.zr_json("challenges", "fromfile")["url"] == "https://x"


@pytest.mark.parametrize("text,words", [
    ("", ""), ("[]", "want one JSON object"), ('{"label": "a", "label": "b"}', "label"), ('{"label": "x", "evaluator": 3}', "evaluator"),
    ('{"label": "../x", "evaluator": "e"}', "label"), ('{"label": "x", "evaluator": "e", "colour": 1}', "colour"),
    ('{"label": "x", "evaluator": "e", "start": "soon"}', "start"), ("[" * 200, ""), ('{"label": "\ud800"}', ""),
], ids=["empty", "list", "twice", "type", "label", "unknown", "time", "deep", "surrogate"])
def test_bad_definitions(db, text, words):
    path = db.file("bad.json", text.encode("utf-8", "surrogatepass"))
    r = db.zr("challenges:add", "-f", path, check=False)
    assert r.returncode in (1, 2) and words in r.stderr and r.stderr.count("\n") == 1 and not r.stdout, r.stderr
    assert len(db.zr_json("challenges", "-a")) == 1


# --- submissions ---

def test_create_and_show(db):
    folder = os.path.dirname(db.file("work/a/b.txt", "hello"))
    os.symlink("/etc/passwd", os.path.join(folder, "link"))
    r = db.zr("submissions:create", "demo", os.path.dirname(folder), "--author", "ada")
    assert r.stdout == "submission 1\n" and "left out: a/link (symlink)" in r.stderr
    stored = os.path.join(db.state, "submissions", "1")
    assert sorted(os.listdir(stored)) == ["manifest.json", "submission.tar.zst"]
    s = db.zr_json("submissions:status", 1)
    assert (s["author"], s["status"], s["files"], s["bytes"]) == ("ada", "uploaded", 1, 5)
    digest = subprocess.run(["sha256sum", os.path.join(stored, "manifest.json")], capture_output=True, text=True).stdout.split()[0]
    assert s["digest"] == "sha256:" + digest
    names = subprocess.run(["tar", "--zstd", "-tf", os.path.join(stored, "submission.tar.zst")], capture_output=True, text=True)
    assert names.stdout.split() == ["a", "a/b.txt"]
    assert [x["id"] for x in db.zr_json("submissions", "--author", "ada", "--challenge", "demo")] == [1]
    assert db.zr_json("submissions", "--author", "bob") == []
    assert db.zr_json("submissions", "--since", "1h") and not db.zr_json("submissions", "--since", "2100-01-01")


def test_create_takes_a_link_that_the_user_names(db):
    real = db.file("real.c", "x")
    os.symlink(real, os.path.join(os.path.dirname(real), "alias.c"))
    assert db.zr_id("submissions:create", "demo", os.path.join(os.path.dirname(real), "alias.c")) == "1"


@pytest.mark.parametrize("make,words", [
    (lambda box: "/nonexistent", "No such file"),
    (lambda box: "/dev/null", "neither a file nor a folder"),
    (lambda box: os.path.join(box.dir, "no\nline"), r"no\x0aline"),
    (lambda box: os.path.dirname(box.file("void/.x")) + "/sub", "holds no regular file"),
], ids=["missing", "device", "newline", "empty"])
def test_bad_paths(db, make, words):
    path = make(db)
    if path.endswith("/sub"):
        os.mkdir(path)
    before = db.zr_json("submissions")
    r = db.zr("submissions:create", "demo", path, check=1)
    assert words in r.stderr and r.stderr.count("\n") == 1 and not r.stdout
    assert db.zr_json("submissions") == before
    folder = os.path.join(db.state, "submissions")
    assert sorted(os.listdir(folder) if os.path.exists(folder) else []) == sorted(str(b["id"]) for b in before)


def test_create_for_a_challenge_that_is_closed_or_not_there(db):
    path = db.file("k.c", "x")
    assert "no challenge 'nosuch'" in db.zr("submissions:create", "nosuch", path, check=1).stderr
    db.zr("challenges:set", "demo", "--inactive")
    r = db.zr("submissions:create", "demo", path, check=1)
    assert "demo" in r.stderr and "open" in r.stderr
    assert db.zr_json("submissions") == [] and os.listdir(os.path.join(db.state, "submissions")) == []


HOSTILE = ["\x1b]0;owned\x07\x1b[2Jx", "a\u009b31mb", "'; drop table submission; --", "%s%n%x", "日本語 ü", "-rf", "$(id)"]


@pytest.mark.parametrize("author", HOSTILE, ids=["escape", "c1", "sql", "printf", "utf8", "option", "shell"])
def test_hostile_names(db, author):
    ident = db.zr_id("submissions:create", "demo", db.file("-rf", "x"), f"--author={author}")
    assert db.zr_json("submissions:status", ident)["author"] == author
    for r in (db.zr("submissions"), db.zr("submissions:status", ident), db.zr("submissions", f"--author={author}")):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]", r.stdout)
    assert int(ident) in [s["id"] for s in db.zr_json("submissions", f"--author={author}")]


def test_names_that_are_not_text(db):
    r = db.run("zr", "submissions:create", "demo", db.file("k", "x"), b"--author=\xff\xfe".decode("utf-8", "surrogateescape"), check=2)
    assert "UTF-8" in r.stderr


def test_killed_at_any_moment_nothing_half_made_is_seen(db):
    for i in range(40):
        db.file(f"big/{i}", os.urandom(200_000))
    argv = [ZR, "submissions:create", "demo", os.path.join(db.dir, "files/big")]
    t = time.monotonic()
    subprocess.run(argv, env=db.env, check=True, capture_output=True)
    whole = time.monotonic() - t
    for i in range(24):
        p = subprocess.Popen(argv, env=db.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            p.wait(whole * 1.2 * i / 24)
        except subprocess.TimeoutExpired:
            p.kill()
        p.communicate()
    folder = os.path.join(db.state, "submissions")
    # What the dead left is judged once the server must be done with them.
    for name in os.listdir(folder):
        if name.startswith(".new-"):
            os.utime(os.path.join(folder, name), (1, 1))
    subprocess.run(argv, env=db.env, check=True, capture_output=True)
    rows = db.zr_json("submissions", "--limit", 1000)
    assert {r["status"] for r in rows} == {"uploaded"}
    assert sorted(os.listdir(folder)) == sorted(str(r["id"]) for r in rows)
    for r in rows:
        subprocess.run(["tar", "--zstd", "-tf", os.path.join(folder, str(r["id"]), "submission.tar.zst")], check=True,
                       stdout=subprocess.DEVNULL)


def test_a_folder_of_another_database_is_not_touched(db):
    strange = os.path.join(db.state, "submissions", "1")
    os.makedirs(strange)
    r = db.zr("submissions:create", "demo", db.file("k.c", "x"), check=1)
    assert "submissions_dir holds '1' already" in r.stderr
    assert os.path.isdir(strange) and db.zr_json("submissions") == []
    assert db.zr_id("submissions:create", "demo", db.file("k.c", "x")) == "2"


def test_delete_and_exclude(db):
    first, second = submission(db), submission(db)
    assert db.zr_json("submissions:status", first, "--exclude")["status"] == "excluded"
    assert db.zr_json("submissions:status", first, "--include")["status"] == "uploaded"
    evaluation(db, second)
    r = db.zr("submissions:delete", first, second, 99, check=1)
    assert r.stdout == f"deleted {first}\n"
    assert "no submission 99" in r.stderr and r.stderr.count("\n") == 2
    assert os.listdir(os.path.join(db.state, "submissions")) == [second]
    assert db.zr_json("submissions:status", first)["status"] == "deleted"


# --- evaluations ---

def test_unknown_numbers(db):
    for verb in ("show", "why", "wait", "watch", "logs", "cancel", "retry"):
        r = db.zr(f"evaluations:{verb}", 99, check=1)
        assert r.stderr == f"zr evaluations:{verb}: no evaluation 99\n" and not r.stdout
    for verb in ("status", "eval", "delete"):
        r = db.zr(f"submissions:{verb}", 99, check=1)
        assert r.stderr == f"zr submissions:{verb}: no submission 99\n" and not r.stdout


def test_keys_and_filters(db):
    e = evaluation(db, submission(db))
    event(db, e, "started", 0)
    event(db, e, "progress", 1, done=3, total=4, text="x\x1b[1my")
    for shown in (db.zr_json("evaluations")[0], db.zr_json("evaluations:show", e)):
        assert set(KEYS) <= set(shown) and set(shown["results"]) >= {"state", "path"}
        assert shown["id"] == e and shown["status"] == "running" and shown["worker"] == "oberon/1"
    table = db.zr("evaluations").stdout
    assert "3 of 4" in table and table.splitlines()[0].split()[0] == "ID"
    assert "\x1b" not in table + db.zr("evaluations:show", e).stdout
    event(db, e, "completed", 2, reason="ok", exit_code=0, scores={"score": 1.5, "nested": {"a": True}})
    shown = db.zr_json("evaluations:show", e)
    assert (shown["status"], shown["reason"], shown["exit_code"], shown["attempt"]) == ("completed", "ok", 0, 1)
    assert shown["scores"] == {"score": 1.5, "nested": {"a": True}}
    for yes, no in ((["--challenge", "demo"], ["--challenge", "x"]), (["--author", "ada"], ["--author", "x"]),
                    (["--status", "completed"], ["--status", "failed"]), (["--host", "oberon"], ["--host", "x"]),
                    (["--since", "1h"], ["--since", "2100-01-01T00:00:00Z"]), (["--evaluator", "hello"], ["--evaluator", "x"]),
                    (["--submission", "1"], ["--submission", "2"])):
        assert len(db.zr_json("evaluations", *yes)) == 1 and db.zr_json("evaluations", *no) == []
    evaluation(db, 1)
    assert [v["id"] for v in db.zr_json("evaluations", "--limit", 1)] == [e + 1]


def test_wait(db):
    e = evaluation(db, submission(db))
    t = time.monotonic()
    r = db.zr("evaluations:wait", e, "--timeout", "300ms", check=75)
    assert "is not 'ended' yet" in r.stderr and time.monotonic() - t < 10
    db.zr("evaluations:wait", e, "--state", "queued", "--timeout", "5s")
    db.zr("evaluations:wait", e, "--state", "created", "--timeout", "5s")
    waiting = subprocess.Popen([ZR, "evaluations:wait", str(e), "--state", "completed"], env=db.env)
    event(db, e, "started", 0)
    db.zr("evaluations:wait", e, "--state", "running", "--timeout", "5s")
    event(db, e, "completed", 1, reason="ok", exit_code=0)
    assert waiting.wait(10) == 0
    db.zr("evaluations:wait", e)
    r = db.zr("evaluations:wait", e, "--state", "failed", check=1)
    assert "will not be 'failed': it is completed" in r.stderr
    db.zr("evaluations:wait", e, "--state", "stored", check=1)


def test_wait_survives_a_database_that_goes_away(db, services):
    e = evaluation(db, submission(db))
    waiting = subprocess.Popen([ZR, "evaluations:wait", str(e)], env=db.env, stderr=subprocess.PIPE, text=True)
    me = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    wait_for(lambda: db.query(me)[0][0] > 0, what="the connection of zr")
    db.query("select pg_terminate_backend(pid) from pg_stat_activity "
             "where datname = current_database() and pid <> pg_backend_pid()")
    assert "trying again" in waiting.stderr.readline()
    assert "is back" in waiting.stderr.readline()
    event(db, e, "failed", 0, reason="exit", exit_code=3)
    assert waiting.wait(15) == 0


def test_watch_prints_lines_off_a_terminal(db):
    e = evaluation(db, submission(db))
    watching = subprocess.Popen([ZR, "evaluations:watch"], env=db.env, stdout=subprocess.PIPE, text=True)
    assert watching.stdout.readline() == f"{e} queued\n"
    event(db, e, "started", 0)
    assert watching.stdout.readline() == f"{e} running on oberon/1\n"
    event(db, e, "progress", 1, done=15, total=200, text="Test 15")
    event(db, e, "failed", 2, reason="exit", exit_code=3, detail="the command said no")
    rest = watching.stdout.read()
    assert rest.splitlines()[-1] == f"{e} failed (exit): the command said no" and watching.wait(10) == 0
    assert "\x1b" not in rest


def test_watch_json_is_a_line_for_each_change(db):
    e = evaluation(db, submission(db))
    watching = subprocess.Popen([ZR, "evaluations:watch", str(e), "--json"], env=db.env, stdout=subprocess.PIPE, text=True)
    assert json.loads(watching.stdout.readline())["status"] == "queued"
    event(db, e, "completed", 0, reason="ok", exit_code=0)
    lines = watching.stdout.read().splitlines()
    assert json.loads(lines[-1])["status"] == "completed" and watching.wait(10) == 0


def test_watch_redraws_on_a_terminal(db):
    e = evaluation(db, submission(db, author="a\x1bb"))
    event(db, e, "started", 0)
    event(db, e, "progress", 1, done=15, total=200, text="Test 15\x1b[7m" + "long " * 100)
    master, slave = pty.openpty()
    watching = subprocess.Popen([ZR, "evaluations:watch"], env=dict(db.env, TERM="xterm"), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while b"15 of 200" not in seen:
        assert select.select([master], [], [], 15)[0], seen
        seen += os.read(master, 4096)
    event(db, e, "completed", 2, reason="ok", exit_code=0)
    try:
        while True:
            seen += os.read(master, 4096)
    except OSError:
        pass
    assert watching.wait(10) == 0
    assert b"[##" in seen and b"\x1b[2F" in seen and b"completed" in seen
    # Nothing of the job's own escapes, and no line is wider than the terminal.
    assert b"\x1b[7m" not in seen and b"a\x1bb" not in seen
    assert all(len(re.sub(rb"\x1b\[\d*[A-Z]", b"", line)) <= 80 for line in seen.split(b"\r\n"))


def test_watch_ends_on_interrupt(db):
    evaluation(db, submission(db))
    watching = subprocess.Popen([ZR, "evaluations:watch"], env=db.env, stdout=subprocess.PIPE, text=True)
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) in (-signal.SIGINT, 130)
    assert "no evaluation matches" in db.zr("evaluations:watch", "--author", "nobody").stderr


def test_why(db):
    sub = submission(db)
    e = evaluation(db, sub, pool="hopper")
    assert "for a free worker of pool 'hopper'" in why(db, e) and "No worker was heard of" in why(db, e)
    assert "of host 'oberon'" in why(db, evaluation(db, sub, pool=None, host="oberon"))
    event(db, e, "started", 0)
    event(db, e, "progress", 1, done=1, total=9)
    assert re.search(r"Attempt 1 runs .*on oberon/1: 1 of 9\.", why(db, e))
    event(db, e, "completed", 2, reason="ok", exit_code=0, root_hash="sha256:" + "0" * 64)
    assert "ran to its end" in why(db, e) and "has not been collected from oberon yet" in why(db, e)


@pytest.mark.parametrize("reason,body,words", [
    ("exit", {"exit_code": 3, "phase": "run"}, "'run' command ended with exit status 3"),
    ("exit", {"exit_code": 3, "phase": "run", "detail": "run exited with status 3"}, "ended with exit status 3."),
    ("exit", {"exit_code": 0, "phase": "run", "detail": "scores.json: it is not an object"},
     "commands ended well, but what they left does not count: scores.json: it is not an object."),
    ("signal", {"signal": 11, "phase": "run", "detail": "run was ended by signal 11 (Segmentation fault)"}, "(Segmentation fault)."),
    ("signal", {"signal": 11, "phase": "prepare"}, "'prepare' command was killed by signal 11 (Segmentation fault)"),
    ("wall-limit", {"phase": "run", "detail": "60s were allowed"}, "ran longer than it may: 60s were allowed."),
    ("memory", {}, "needed more memory"),
    ("output-limit", {}, "wrote more than it may"),
    ("pids", {}, "started more processes"),
    ("cpu-limit", {}, "more CPU time"),
    ("disk", {}, "no disk space"),
    ("setup", {"detail": "there is no evaluator 'x'"}, "could not be set up as its evaluator or request asks: there is no evaluator 'x'"),
    ("infrastructure", {"detail": "disk"}, "evaluations:retry"),
    ("lost", {}, "was lost"),
    ("poison", {}, "took its keeper down"),
    ("exit", {"exit_code": 1, "detail": "\x1b[31m"}, r"\x1b[31m"),
])
def test_why_it_failed(db, reason, body, words):
    e = evaluation(db, submission(db))
    event(db, e, "failed", 0, reason=reason, **body)
    assert words in why(db, e)


# --- workers ---

def test_workers(db):
    assert db.zr_json("workers") == []
    body = {"zr": "1.0", "type": "worker", "host": "oberon", "worker": "oberon/1", "pid": 7, "state": "busy",
            "since": "2026-11-21T22:00:00Z", "at": "2026-11-21T23:00:00Z", "boot_id": str(uuid.uuid4()),
            "jobs": [{"evaluation": "42", "attempt": 1, "phase": "run", "since": "2026-11-21T23:00:00Z"}], "evaluators": ["hello"]}
    db.query("insert into worker (worker, host, at, body) values ('oberon/1', 'oberon', now(), %s)", json.dumps(body))
    w = db.zr_json("workers")[0]
    assert (w["worker"], w["state"], w["pid"], w["jobs"][0]["evaluation"]) == ("oberon/1", "busy", 7, "42")
    assert "42 run" in db.zr("workers").stdout
