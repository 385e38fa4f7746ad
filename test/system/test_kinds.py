# SPDX-License-Identifier: MIT
"""Kinds of submissions whose evaluators ship at isolation level `sandbox`: samples through real boxes."""
import json
import os
import shutil
import subprocess

import pytest

from lib.boxed import GROUPS, Boxed
from lib.evaluation import BIN, EXAMPLES, Evaluation

in_a_box = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
            pytest.mark.skipif(not {"v1_memory", "v2_memory"} & set(GROUPS), reason="no memory controller"),
            pytest.mark.skipif(not {"v1_pids", "v2_pids"} & set(GROUPS), reason="no pids controller")]


def sample(name):
    return os.path.join(EXAMPLES, name)


@pytest.fixture(params=["root", "user"])
def boxed(request):
    """boxed(EVALUATOR): its sandbox, kept by root or by another user."""
    made = []

    def make(evaluator):
        made.append(Boxed(evaluator, request.param == "user"))
        return made[-1]
    yield make
    for b in made:
        b.close()


def boxes_of(*names):
    """Parametrizes with sample submissions in boxes, and marks what those need."""
    def mark(function):
        for m in in_a_box:
            function = m(function)
        return pytest.mark.parametrize("name", names)(function) if names else function
    return mark


def scores_in(box):
    with open(os.path.join(box.output, "scores.json")) as f:
        return json.load(f)


def rewrite(path, change):
    """Changes a JSON file of a copied evaluator."""
    with open(path) as f:
        value = json.load(f)
    change(value)
    with open(path, "w") as f:
        json.dump(value, f)


# --- python-script, in a box ---

@boxes_of("good", "program")
def test_a_right_script_in_a_sandbox(boxed, name):
    box, r = boxed("python-script").run(sample("python-script/" + name))
    assert (r["reason"], r["phase"]) == ("ok", "score"), (r, box.read("err.log"))
    assert r["scores"]["score"] == 1 and r["scores"]["passed"] == r["scores"]["total"] == 8
    assert scores_in(box) == r["scores"] and os.path.exists(box.output + "/run/outcomes.json")


@boxes_of()
def test_a_script_cannot_forge_its_scores(boxed):
    box, r = boxed("python-script").run(sample("python-script/forges-scores"))
    assert r["reason"] == "ok", (r, box.read("err.log"))
    assert r["scores"]["score"] == pytest.approx(0.1) and r["scores"]["passed"] == 1  # `empty` is right
    assert scores_in(box) == r["scores"]
    with open(box.output + "/run/scores.json") as f:
        assert json.load(f)["score"] == 1000  # kept as evidence, and no more than that


@boxes_of("prints-garbage", "exits", "never-ends")
def test_a_script_that_does_not_answer_has_no_points(boxed, name):
    b = boxed("python-script")
    if name == "never-ends":
        rewrite(b.evaluator + "/cases.json", lambda t: t.update(seconds=0.5))
    box, r = b.run(sample("python-script/" + name))
    assert r["reason"] == "ok", (r, box.read("err.log"))
    assert r["scores"]["score"] == 0 and r["scores"]["total"] == 8
    sentence = {"prints-garbage": "File too large", "exits": "ended without a result", "never-ends": "took longer than 0.5 s"}[name]
    assert all(sentence in c["why"] for c in r["scores"]["cases"].values()), r["scores"]
    assert b"1000" not in box.read("out.log")


SNOOPER = """
import glob, os
def merge(intervals):
    seen = []
    for top, folders, files in os.walk("/"):
        if top.startswith(("/proc", "/sys", "/usr")):
            folders.clear()
        seen += [os.path.join(top, f) for f in files if f in ("expected.json", "score.py", "judge.py")]
    for path in glob.glob("/evaluator/reference/*") + ["/evaluator/reference/expected.json"]:
        try:
            seen.append(open(path).read())
        except OSError:
            pass
    raise LookupError(repr(seen))
"""


@boxes_of()
def test_a_script_does_not_see_what_is_expected(boxed, tmp_path):
    (tmp_path / "solution.py").write_text(SNOOPER)
    box, r = boxed("python-script").run(tmp_path)
    assert r["reason"] == "ok", (r, box.read("err.log"))
    assert {c["why"] for c in r["scores"]["cases"].values()} == {
        "ended with exit status 1: LookupError: ['/evaluator/score.py']"}


BREAKERS = {
    "link": "os.symlink('/evaluator/reference/expected.json', 'outcomes.json')",
    "fifo": "os.mkfifo('outcomes.json')",
    "deep": "open('outcomes.json', 'w').write('[' * 1000000)",
    "list": "open('outcomes.json', 'w').write('[]')",
    "huge": "os.truncate(os.open('outcomes.json', os.O_CREAT | os.O_RDWR), 1 << 20)",
}


@boxes_of(*BREAKERS)
def test_answers_that_the_submission_replaced(boxed, tmp_path, name):
    """A process of another session outlives the case, waits for run.py to write, and puts something else there. The case ends when
    it is in its session: what is not by then ends with it."""
    (tmp_path / "solution.py").write_text(f"""
import os, time
def merge(intervals):
    there, away = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(away)
        os.chdir("/output")
        while not os.path.exists("outcomes.json"):
            time.sleep(0.001)
        try:
            os.unlink("outcomes.json")
            {BREAKERS[name]}
        finally:
            open("/box/replaced", "w").close()
            os._exit(0)
    os.close(away)
    os.read(there, 1)
    return []
""")
    b = boxed("python-script")
    rewrite(b.evaluator + "/cases.json", lambda t: t.update(cases=t["cases"][:1]))
    # The phase ends with run.py: here not before the other process is done.
    with open(b.evaluator + "/run.py") as f:
        text = f.read()
    assert '"done")\n    return 0' in text
    with open(b.evaluator + "/run.py", "w") as f:
        f.write(text.replace('"done")\n    return 0', '"done")\n    while not os.path.exists("/box/replaced"):\n        pass\n    return 0'))
    box, r = b.run(tmp_path)
    assert (r["reason"], r["exit_code"], r["phase"]) == ("exit", 3, "score"), r
    assert b"the submission destroyed its answers" in box.read("err.log") and r["scores"] is None


# --- python-script, by itself ---

def evaluator_copy(tmp_path, name):
    return shutil.copytree(os.path.join(BIN, name), tmp_path / "evaluator")


def submission(tmp_path, **files):
    folder = tmp_path / "submission"
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_a_wrong_script_says_which_cases_and_not_what_was_expected(tmp_path):
    e = Evaluation("python-script", sample("python-script/wrong"), tmp_path).run()
    assert e.code == 0, e.err
    assert e.scores["cases"]["nested"] == {"score": 0.0, "why": "wrong"} and e.scores["cases"]["touch"] == {"score": 1.0}
    assert e.scores["score"] == 0.6 and e.scores["passed"] == 6
    assert e.progress[0] == {"done": 0, "total": 8, "text": "empty"} and e.progress[-1]["done"] == 8


@pytest.mark.parametrize("files, sentence", [
    ({}, "the submission has no file solution.py or main.py"),
    ({"solution_py": "", "main_py": ""}, "has both solution.py and main.py"),
    ({"solution_py": "def merge(:\n"}, "solution.py is not Python: invalid syntax"),
    ({"main_py": "\0"}, "main.py is not Python: source code string cannot contain null bytes"),
    ({"solution_py": "#" * (1 << 20) + "\n"}, "solution.py is not a regular file of at most 1048576 bytes"),
], ids=["none", "both", "syntax", "nul", "large"])
def test_a_script_that_cannot_be_run_is_refused_in_a_sentence(tmp_path, files, sentence):
    e = Evaluation("python-script", submission(tmp_path, **files), tmp_path).run()
    assert e.code == 3 and list(e.phases) == ["run"] and e.scores is None
    assert sentence in e.err and e.err.count("\n") == 1


@pytest.mark.parametrize("text, why", [
    ("x = 1", "solution.py does not define the function merge()"),
    ("def merge(i):\n\traise ValueError('\\x1b[31m')", "ValueError: \\x1b[31m"),
    ("def merge(i):\n\treturn {1}", "TypeError: Object of type set is not JSON serializable"),
    ("def merge(i):\n\treturn float('nan')", "ValueError: Out of range float"),
    ("def merge(i):\n\timport os\n\tos.kill(os.getpid(), 9)", "was ended by SIGKILL"),
    ("def merge(i):\n\treturn True", "wrong"),
    ("import os\nos.mkfifo(os.environ['HOME'] + '/result')\nos._exit(0)", "ended without a result"),
], ids=["no-function", "raises", "no-json", "nan", "killed", "bool", "fifo"])
def test_what_a_function_may_do_instead_of_answering(tmp_path, text, why):
    e = Evaluation("python-script", submission(tmp_path, solution_py=text), tmp_path).run()
    assert e.code == 0 and e.scores["score"] == 0, e.err
    assert all(why in c["why"] for c in e.scores["cases"].values()), e.scores


def test_a_judge_of_ones_own_and_cases_of_text(tmp_path):
    ev = evaluator_copy(tmp_path, "python-script")
    (ev / "cases.json").write_text(json.dumps({"cases": [
        {"name": "shout", "stdin": "hello\n", "argv": ["-x"]}, {"name": "odd", "stdin": "1\n"}]}))
    (ev / "reference/expected.json").write_text(json.dumps({"shout": {"stdout": "-x HELLO"}, "odd": {}}))
    program = "import sys\nprint(*sys.argv[1:], sys.stdin.read().upper())"
    (ev / "reference/judge.py").write_text("def judge(case, answer, expected):\n\treturn len(answer['stdout']) / 20 if expected else 1 / 0\n")
    e = Evaluation(ev, submission(tmp_path, main_py=program), tmp_path).run()
    assert e.code == 0, e.err
    assert e.scores["cases"] == {"shout": {"score": 0.5, "why": "partly right"},
                                 "odd": {"score": 0.0, "why": "cannot be judged: ZeroDivisionError: division by zero"}}
    os.remove(ev / "reference/judge.py")
    rewrite(ev / "reference/expected.json", lambda x: x.update(odd={"result": 1}))
    (tmp_path / "again").mkdir()
    e = Evaluation(ev, tmp_path / "submission", tmp_path / "again").run()
    assert e.scores["score"] == 1, e.scores


@pytest.mark.parametrize("file, text, sentence", [
    ("cases.json", "[]", "the evaluator's cases are broken: cases.json: is not a JSON object"),
    ("cases.json", '{"cases": []}', "`cases` must be a list of 1 to 200 cases"),
    ("cases.json", '{"cases": [{"name": "../x"}]}', "case 1 has no name"),
    ("reference/expected.json", "{}", "the evaluator's reference data is broken: expected.json: nothing is expected for 'empty'"),
    ("reference/judge.py", "def judge(*args):\n\treturn 2\n", "judge.py gave 2.0 for 'empty'"),
])
def test_a_broken_script_evaluator_is_not_the_submitters_fault(tmp_path, file, text, sentence):
    ev = evaluator_copy(tmp_path, "python-script")
    (ev / file).write_text(text)
    e = Evaluation(ev, sample("python-script/good"), tmp_path).run()
    assert e.code == 2 and sentence in e.err and e.scores is None


# --- config ---

@boxes_of("good", "good-json")
def test_a_configuration_in_a_sandbox(boxed, name):
    box, r = boxed("config").run(sample("config/" + name))
    assert (r["reason"], r["phase"]) == ("ok", "run"), (r, box.read("err.log"))
    s = r["scores"]
    assert s["score"] == 1 and s["passed"] == s["total"] == len(s["tests"]) == {"good": 4, "good-json": 3}[name]
    if name == "good":
        assert [(n, t["runs"]) for n, t in s["tests"].items()] == [("quick-tour", 2), ("quick-primes", 2), ("slow-cooling", 3), ("primes", 2)]
        assert s["tests"]["primes"] | {"median_seconds": 0} == {
            "outcome": "passed", "runs": 2, "passed": 2, "median_seconds": 0, "median": 168, "least": 168, "most": 168}
    with open(box.output + "/runs.json") as f:
        assert [t["name"] for t in json.load(f)] == list(s["tests"])


@boxes_of("forges-scores", "billion", "unknown-suite")
def test_a_hostile_configuration_runs_nothing(boxed, name):
    box, r = boxed("config").run(sample("config/" + name))
    assert (r["reason"], r["exit_code"], r["scores"]) == ("exit", 3, None)
    sentence = {"forges-scores": b"config.yaml: line 2: could not determine a constructor for the tag",
                "billion": b"config.yaml: line 1: anchors and aliases are not allowed",
                "unknown-suite": b"there is no suite 'everything'; there is quick, primes"}[name]
    assert box.read("err.log").startswith(sentence) and not os.path.exists(box.output + "/scores.json")


def test_each_test_of_a_configuration_has_an_outcome(tmp_path):
    e = Evaluation("config", sample("config/wrong"), tmp_path).run()
    assert e.code == 0, e.err
    t = e.scores["tests"]
    assert {n: (v["outcome"], v["runs"], v["passed"]) for n, v in t.items()} == {
        "tour": ("failed", 2, 0), "primes": ("time-out", 1, 0), "fine": ("passed", 1, 1)}
    assert t["primes"]["why"] == "took longer than 1 s" and "10 are allowed" in t["tour"]["why"]
    assert e.scores["score"] == pytest.approx(1 / 3) and t["primes"]["median_seconds"] >= 1
    assert e.progress[0] == {"done": 0, "total": 4, "text": "tour, run 1 of 2"} and e.progress[-1]["done"] == 4


TEST = "{test: primes, %s}"
BAD_CONFIGS = {
    "empty": ("", "the configuration must be a mapping"),
    "nothing": ("{}", "it asks for no tests; 1 to 50 are allowed"),
    "many": ("suites: [%s]" % ", ".join(["quick"] * 2000), "tests; 1 to 50 are allowed"),
    "key": ("test: []", "the configuration has an unknown key 'test'; there is suites, tests"),
    "key twice": ("suites: []\nsuites: []", "config.yaml: the key 'suites' is given twice in line 1"),
    "no text": ("[1]: 2", "config.yaml: the key [1] in line 1 is not a text"),
    "suites": ("suites: quick", "'suites' must be a list"),
    "suite": ("suites: [[quick]]", "there is no suite ['quick']"),
    "test": ("tests: [primes]", "test 1 must be a mapping"),
    "no test": ("tests: [{name: a}]", "there is no test None; there is tour, primes"),
    "path": ("tests: [{test: ../../bin/sh}]", "there is no test '../../bin/sh'"),
    "name": ("tests: [%s]" % (TEST % "name: a b"), "a name has 1 to 64 letters"),
    "same name": ("tests: [{test: primes}, {test: primes}]", "two tests have the name primes"),
    "parameter": ("tests: [%s]" % (TEST % "parameters: {limit: 5}"), "the parameter 'limit' of primes must be a whole number from 10 to 1e+07, not 5"),
    "bool": ("tests: [%s]" % (TEST % "parameters: {limit: true}"), "not True"),
    "date": ("tests: [%s]" % (TEST % "parameters: {limit: 2026-01-01}"), "not datetime.date(2026, 1, 1)"),
    "nan": ("tests: [{test: tour, parameters: {start: .nan}}]", "must be a number from 0 to 1000, not nan"),
    "hex": ("tests: [%s]" % (TEST % "parameters: {limit: 0x%s}" % ("f" * 9999)), "not that"),
    "choice": ("tests: [%s]" % (TEST % "parameters: {method: guess}"), "must be one of division, sieve, not 'guess'"),
    "unknown": ("tests: [%s]" % (TEST % "parameters: {speed: 1}"), "'parameters' of primes has an unknown key 'speed'; there is limit, method"),
    "runs": ("runs: 1000000\nsuites: [quick]", "'runs' of quick-tour must be a whole number from 1 to 20, not 1000000"),
    "timeout": ("timeout: 0\nsuites: [quick]", "'timeout' of quick-tour must be a number from 0.1 to 60, not 0"),
    "long": ("runs: 20\ntimeout: 60\nsuites: [quick]", "the tests may take 2400 s together, 540 s are allowed"),
    "syntax": ("a: [", "config.yaml: line 1: "),
    "deep": ("[" * 60000, "config.yaml: cannot be read: maximum recursion depth exceeded"),
    "latin 1": ("# \xe9".encode("latin-1"), "config.yaml: is not UTF-8 text"),
    "large": ("#" * 65537, "config.yaml: is not a regular file of at most 65536 bytes"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_configuration_is_refused_in_one_sentence(tmp_path, case):
    text, sentence = BAD_CONFIGS[case]
    folder = submission(tmp_path)
    (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    e = Evaluation("config", folder, tmp_path).run()
    assert e.code == 3 and e.scores is None and sentence in e.err and e.err.count("\n") == 1, e.err


@pytest.mark.parametrize("text, sentence", [
    ('{"suites": [], "suites": []}', "config.json: the key 'suites' is given twice"),
    ('{"suites": ["quick"', "config.json: cannot be read: Expecting ',' delimiter"),
    ('{"runs": NaN, "suites": ["quick"]}', "'runs' of quick-tour must be a whole number"),
    ("[" * 60000, "config.json: cannot be read: maximum recursion depth"),
])
def test_a_bad_json_configuration_is_refused_in_one_sentence(tmp_path, text, sentence):
    e = Evaluation("config", submission(tmp_path, config_json=text), tmp_path).run()
    assert e.code == 3 and e.scores is None and sentence in e.err and e.err.count("\n") == 1, e.err


def test_a_host_without_yaml_says_so(tmp_path):
    ev = evaluator_copy(tmp_path, "config")
    (ev / "yaml.py").write_text("raise ImportError\n")  # stands before Debian's on the path
    e = Evaluation(ev, sample("config/good"), tmp_path).run()
    assert e.code == 77 and e.err == "this host cannot read YAML: install Debian's package python3-yaml, or submit config.json\n"
    (tmp_path / "json").mkdir()
    assert Evaluation(ev, sample("config/good-json"), tmp_path / "json").run().code == 0


def test_the_evaluators_that_run_programs_do_it_alike():
    """Each folder is to be copied by itself, so each has the files."""
    for name in ("config/child.py", "notebook/child.py", "notebook/equal.py"):
        with open(BIN + "/python-script/" + os.path.basename(name)) as a, open(os.path.join(BIN, name)) as b:
            assert a.read() == b.read(), name


# --- notebook ---

ANSWERS = {"rows": 10, "mean_length": 165.05, "slope": 100.090909, "rest_length": 120.009091}


def executed(box):
    """The code cells of the copy that is among the results."""
    with open(os.path.join(box.output, "run/executed.ipynb")) as f:
        return [c for c in json.load(f)["cells"] if c["cell_type"] == "code"]


@pytest.mark.needs("jupyter")
@boxes_of()
def test_a_notebook_in_a_sandbox(boxed):
    box, r = boxed("notebook").run(sample("notebook/good"))
    assert (r["reason"], r["phase"]) == ("ok", "score"), (r, box.read("err.log"))
    assert r["scores"] == scores_in(box) == {"score": 1, "right": 4, "total": 4, "answers": dict.fromkeys(ANSWERS, "right")}
    cells = executed(box)
    assert [c["execution_count"] for c in cells] == [1, 2, 3] and cells[0]["outputs"][0]["text"] == ["10 rows\n"]
    with open(box.output + "/run/answers.json") as f:
        assert json.load(f) == pytest.approx(ANSWERS)


BAD_NOTEBOOKS = {
    "raises": "cell 2 of 3 raised NameError: name 'undefined' is not defined",
    "exits": "cell 4 of 4 ended the kernel",
    "never-ends": "cell 2 of 2 took longer than 2 s",
    "no-answers": "the notebook left no file answers.json of at most 1048576 bytes",
    "peeks": "cell 2 of 2 raised PermissionError: [Errno 13] Permission denied: '/evaluator/reference/expected.json'",
}


@pytest.mark.needs("jupyter")
@boxes_of(*BAD_NOTEBOOKS)
def test_a_notebook_that_fails_says_where_and_leaves_its_copy(boxed, name):
    b = boxed("notebook")
    if name == "never-ends":
        b.conf["run"] = "run.py --cell-seconds 2"
    box, r = b.run(sample("notebook/" + name))
    assert (r["reason"], r["exit_code"], r["phase"], r["scores"]) == ("exit", 4, "run", None), (r, box.read("err.log"))
    assert box.read("err.log").decode().splitlines()[-1] == BAD_NOTEBOOKS[name]
    assert executed(box)[0]["outputs"][0]["text"] == ["10 rows\n"]


@pytest.mark.needs("jupyter")
@boxes_of()
def test_a_notebook_cannot_forge_its_scores(boxed):
    box, r = boxed("notebook").run(sample("notebook/forges-scores"))
    assert r["reason"] == "ok", (r, box.read("err.log"))
    assert r["scores"] == scores_in(box) == {"score": 0, "right": 0, "total": 4, "answers": dict.fromkeys(ANSWERS, "missing")}


@pytest.mark.needs("jupyter")
def test_a_notebook_reports_its_cells(tmp_path):
    e = Evaluation("notebook", sample("notebook/wrong"), tmp_path).run()
    assert e.code == 0, e.err
    assert e.scores["score"] == 0.4 and e.scores["answers"] == {
        "rows": "right", "mean_length": "right", "slope": "wrong", "rest_length": "wrong"}
    assert e.progress == [{"done": i, "total": 3, "text": t} for i, t in enumerate(
        ["cell 1 of 3", "cell 2 of 3", "cell 3 of 3", "done"])]


@pytest.mark.needs("jupyter")
@pytest.mark.parametrize("files, sentence", [
    ({}, "the submission has no notebooks (.ipynb), it must be one"),
    ({"a_ipynb": "", "b_ipynb": ""}, "the submission has 2 notebooks (.ipynb), it must be one"),
    ({"a_ipynb": "print(1)"}, "a.ipynb is not a notebook: Notebook does not appear to be JSON"),
    ({"a_ipynb": "[" * 100000}, "a.ipynb is not a notebook: "),
    ({"a_ipynb": '{"cells": 1, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'}, "a.ipynb is not a notebook: "),
], ids=["none", "two", "no-json", "deep", "no-cells"])
def test_what_is_no_notebook_is_refused_in_a_sentence(tmp_path, files, sentence):
    e = Evaluation("notebook", submission(tmp_path, **files), tmp_path).run()
    assert e.code == 3 and list(e.phases) == ["run"] and e.scores is None
    assert e.err.splitlines()[-1].startswith(sentence), e.err


@pytest.mark.parametrize("module", ["nbformat", "nbconvert"])
def test_a_host_without_jupyter_says_so(tmp_path, module):
    ev = evaluator_copy(tmp_path, "notebook")
    (ev / (module + ".py")).write_text(f"raise ImportError(name='{module}')\n")  # stands before Debian's on the path
    e = Evaluation(ev, sample("notebook/good"), tmp_path).run()
    assert e.code == 77 and e.scores is None
    assert "is missing: install Debian's packages jupyter-nbconvert and python3-ipykernel" in e.err and e.err.count("\n") == 1


def test_notebook_samples_are_what_make_py_makes(tmp_path):
    subprocess.run([sample("notebook/make.py"), str(tmp_path)], check=True)
    for name in os.listdir(tmp_path):
        with open(sample(f"notebook/{name}/springs.ipynb")) as f:
            assert (tmp_path / name / "springs.ipynb").read_text() == f.read()


# --- all of them, from the submission to the scores ---

@pytest.mark.needs("jupyter")
@boxes_of()
def test_through_a_worker(sandbox):
    sandbox.prepare()
    sandbox.eval_worker()
    sandbox.update_worker()
    for kind, name in {"python-script": "program", "config": "good-json", "notebook": "good"}.items():
        sandbox.zr("challenges:add", kind, "--evaluator", kind)
        folder = shutil.copytree(sample(f"{kind}/{name}"), os.path.join(sandbox.dir, "files", kind))
        ident = sandbox.zr_id("submissions:create", kind, folder, "--author", "ada")
        done = sandbox.wait_evaluation(sandbox.zr_id("submissions:eval", ident), "completed", "failed", timeout=120)
        assert (done["reason"], done["scores"]["score"]) == ("ok", 1), done
        assert sandbox.evaluation(done["id"])["attempts"][-1]["isolation"]["level"] == "sandbox"
