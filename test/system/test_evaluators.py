# SPDX-License-Identifier: MIT
"""The shipped evaluators, run by themselves: no broker, no database, no box."""
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from lib.evaluation import BIN, EXAMPLES, Evaluation, read_conf
from lib.services import ROOT
from lib.wait import wait_for

pytestmark = pytest.mark.standalone

CHEATS = os.path.join(ROOT, "test/evaluators/cheats")
FAKE_CUDA = os.path.join(ROOT, "test/evaluators/fake-cuda")
KERNEL = os.path.join(BIN, "c-kernel")
CUDA = os.path.join(BIN, "cuda-kernel")


def evaluate(tmp_path, evaluator, submission, **kw):
    return Evaluation(evaluator, submission, tmp_path, **kw).run()


def sample(name):
    return os.path.join(EXAMPLES, name)


def leaves(value):
    for v in value.values() if isinstance(value, dict) else [value]:
        yield from leaves(v) if isinstance(v, dict) else [v]


# --- the contract ---

def test_every_conf_is_readable_and_names_executables_inside_its_folder():
    for name in sorted(os.listdir(BIN)):
        folder = os.path.join(BIN, name)
        if not os.path.isdir(folder):
            continue
        conf = read_conf(os.path.join(folder, "evaluator.conf"))
        for phase in {"prepare", "run", "score"} & set(conf):
            program = os.path.join(folder, conf[phase].split()[0])
            assert os.access(program, os.X_OK) and not os.path.islink(program), program
        assert conf["isolation"] in ("none", "sandbox", "container") and "wall_limit" in conf, name


def test_the_readme_shows_hello_as_it_is():
    with open(BIN + "/README.md") as f:
        shown = f.read().split("```sh\n")[1].split("```")[0].splitlines()
    with open(BIN + "/hello") as f:
        assert [line for line in f.read().splitlines() if not line.startswith("# ")] == shown


def test_hello(tmp_path):
    e = evaluate(tmp_path, "hello", sample("hello"))
    assert e.code == 0, e.err
    assert e.scores == {"score": 11, "files": 1, "lines": 2, "words": 11}
    assert e.progress == [{"fraction": 0.5, "text": "counting words"}]


# --- c-kernel: samples ---

@pytest.fixture(scope="module")
def matmul_scores(tmp_path_factory):
    """good and better, evaluated once."""
    found = {}
    for name in ("good", "better"):
        e = evaluate(tmp_path_factory.mktemp(name), "c-kernel", sample("c-kernel/" + name))
        assert e.code == 0, e.err
        found[name] = e
    return found


@pytest.fixture(scope="module")
def built(matmul_scores):
    """An evaluation whose work folder holds a judge and the parts of a runner."""
    return matmul_scores["good"]


def test_good_and_better_kernels_are_ranked(matmul_scores):
    good, better = (matmul_scores[n].scores for n in ("good", "better"))
    assert good["correct"] is True and better["correct"] is True
    assert better["score"] > 1.2 * good["score"] > 0


def test_kernel_scores_have_the_promised_form(matmul_scores):
    s = matmul_scores["better"].scores
    assert s["task"] == "matmul" and len(s["seed"]) == 16 and s["checks"] > 20
    assert "gcc" in s["compiler"] and s["clock"] == "processor time"
    assert all(isinstance(v, (str, bool)) or math.isfinite(v) for v in leaves(s))
    speedups = []
    for shape in s["shapes"].values():
        assert shape["speedup_low"] <= shape["speedup"] <= shape["speedup_high"]
        assert 0 < shape["error_of_tolerance"] <= 1 and shape["rounds"] >= 15
        for side in ("submission", "baseline"):
            t = shape[side]
            assert 0 < t["min_usec"] <= t["p10_usec"] <= t["median_usec"] <= t["p90_usec"] and t["mad_usec"] >= 0
            assert t["wall_usec"] > 0
        speedups.append(shape["speedup"])
    geometric = math.exp(sum(map(math.log, speedups)) / len(speedups))
    assert len(speedups) >= 3 and s["score"] == pytest.approx(geometric, rel=1e-3)


def test_kernel_progress_and_output(matmul_scores):
    e = matmul_scores["better"]
    done = [p["done"] for p in e.progress]
    assert done == sorted(done) and e.progress[-1]["done"] == e.progress[-1]["total"]
    texts = [p["text"] for p in e.progress]
    assert any(t.startswith("checking matmul ") for t in texts) and "timing matmul 128x128x128" in texts
    assert sorted(os.listdir(e.output)) == ["build.log", "scores.json"]
    assert "score" in e.phases["run"].out


def test_two_runs_use_different_inputs(matmul_scores):
    assert matmul_scores["good"].scores["seed"] != matmul_scores["better"].scores["seed"]


@pytest.mark.parametrize("task", ["softmax", "layernorm", "conv1d"])
def test_every_task_has_a_sample_that_beats_its_baseline(tmp_path, task):
    e = evaluate(tmp_path, "c-kernel", sample(f"c-kernel/{task}-better"))
    assert e.code == 0, e.err
    assert e.scores["correct"] is True and e.scores["task"] == task
    assert e.scores["score"] > 1.2


@pytest.mark.parametrize("name", ["wrong", "softmax-wrong"])
def test_a_wrong_kernel_scores_zero_and_says_where(tmp_path, name):
    e = evaluate(tmp_path, "c-kernel", sample("c-kernel/" + name))
    assert e.code == 0, e.err
    assert e.scores["score"] == 0 and e.scores["correct"] is False and "shapes" not in e.scores
    assert "it must be" in e.scores["why"] and "x" in e.scores["why"]


def test_a_kernel_that_does_not_compile_shows_the_compilers_words(tmp_path):
    e = evaluate(tmp_path, "c-kernel", sample("c-kernel/does-not-compile"))
    assert e.code == 3 and list(e.phases) == ["prepare"] and e.scores is None
    assert "kernel.c does not compile" in e.err and "kernel.c:9:" in e.err and "length" in e.err
    assert EXAMPLES not in e.err
    with open(e.output + "/build.log") as f:
        assert "error" in f.read()


def test_a_kernel_that_never_ends_is_stopped_from_outside_and_leaves_nothing(tmp_path):
    e = Evaluation("c-kernel", sample("c-kernel/never-ends"), tmp_path)
    assert e.finish("prepare", e.start("prepare")).code == 0
    process = e.start("run")
    runners = wait_for(lambda: e.progress and runners_of(process.pid), what="the first check")
    os.kill(process.pid, signal.SIGTERM)
    phase = e.finish("run", process)
    assert phase.code == 4 and "stopped from outside during: checking matmul" in phase.err
    assert e.scores is None and int(read_conf(KERNEL + "/evaluator.conf")["wall_limit"].rstrip("s")) <= 20
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in runners), what="the runners' end")


def runners_of(judge):
    """The pids of the judge's children, once there are two."""
    try:
        with open(f"/proc/{judge}/task/{judge}/children") as f:
            pids = f.read().split()
    except FileNotFoundError:
        return None
    return pids if len(pids) == 2 else None


# --- c-kernel: what a submission may look like ---

def write_submission(folder, **files):
    os.makedirs(folder)
    for name, text in files.items():
        with open(os.path.join(folder, name.replace("_", ".")), "w") as f:
            f.write(text)
    return folder


@pytest.mark.parametrize("files, args, sentence", [
    ({"kernel_c": ""}, [], "no task: the submission needs a file 'task'"),
    ({"kernel_c": "", "task": "sort\n"}, [], "unknown task 'sort'"),
    ({"kernel_c": "", "task": "softmax\n"}, ["--task", "matmul"], "is for the task 'softmax', but this challenge is 'matmul'"),
    ({"task": "matmul\n"}, [], "has no file kernel.c"),
    ({"kernel_c": "", "task": "matmul\n"}, [], "does it define matmul()"),
    ({"kernel_c": "int main(void) { return 0; }", "task": "matmul\n"}, [], "does not link"),
    ({"kernel_c": '#include "missing.h"', "kernel_json": '{"task": "matmul"}'}, [], "missing.h"),
], ids=["no-task", "unknown-task", "other-task", "no-source", "no-function", "own-main", "no-header"])
def test_a_submission_that_cannot_be_built_is_refused_in_words(tmp_path, files, args, sentence):
    folder = write_submission(str(tmp_path / "submission"), **files)
    e = evaluate(tmp_path, "c-kernel", folder, args=args)
    assert e.code == 3 and list(e.phases) == ["prepare"], e.err
    assert sentence in e.err


def test_a_link_in_place_of_the_source_is_refused(tmp_path):
    folder = write_submission(str(tmp_path / "submission"), task="matmul\n")
    os.symlink("/etc/passwd", folder + "/kernel.c")
    e = evaluate(tmp_path, "c-kernel", folder)
    assert e.code == 3 and e.err == "kernel.c is a symbolic link\n"


def test_a_task_of_control_characters_cannot_write_on_a_terminal(tmp_path):
    folder = write_submission(str(tmp_path / "submission"), kernel_c="", task="\x1b[31m\\033[31m\n")
    e = evaluate(tmp_path, "c-kernel", folder)
    assert e.code == 3 and e.err.startswith("unknown task '[31m\\033[31m'; ")


# --- c-kernel: cheats ---

# name: (exit status, part of the sentence)
VERDICTS = {
    "writes-input": (4, "wrote into its input, which is read-only"),
    "caches-by-pointer": (0, "wrong result"),
    "caches-by-shape": (0, "wrong result"),
    "idle-when-timed": (0, "wrong result: matmul 128x128x128"),
    "exits-early": (4, "ended its process with exit status 0 in the middle of a call"),
    "crashes": (4, "crashed: Segmentation fault (SIGSEGV), it used memory that is not its own"),
    "overruns": (0, "it wrote outside of its result"),
    "leaves-out": (0, "is not written"),
    "jumps": (0, "is not written"),
    "fills-nan": (0, "wrong result"),
    "half-precision": (0, "wrong result"),
    "writes-everywhere": (4, "wrote to the judge's channel itself"),
    "closes-channel": (4, "crashed"),
}


def cheat(tmp_path, built, name):
    """Judges a cheat in a copy of a prepared work folder: only the kernel is compiled anew, as prepare.sh does it."""
    e = Evaluation("c-kernel", f"{CHEATS}/{name}", tmp_path)
    shutil.copytree(built.work, e.work, dirs_exist_ok=True)
    with open(e.work + "/compiler") as f:
        flags = f.read().split(", ", 1)[1].split()
    subprocess.run(["gcc", *flags, f"-I{KERNEL}/include", f"-I{CHEATS}", "-c", "-o", "kernel.o",
                    f"{CHEATS}/{name}/kernel.c"], cwd=e.work, check=True)
    subprocess.run(["gcc", "-static", "-o", "kernel", "runner.o", "glue.o", "kernel.o", "-lm"], cwd=e.work, check=True)
    e.finish("run", e.start("run"))
    assert all(p["text"] != "forged" for p in e.progress)
    return e


@pytest.mark.parametrize("name", VERDICTS)
def test_a_cheat_gets_its_verdict(tmp_path, built, name):
    code, sentence = VERDICTS[name]
    e = cheat(tmp_path, built, name)
    assert e.code == code, e.err
    if code == 0:
        assert e.scores["score"] == 0 and e.scores["correct"] is False
        assert sentence in e.scores["why"]
    else:
        assert e.scores is None and sentence in e.err


def test_an_early_reply_gains_nothing(tmp_path, built):
    """The result is looked at while the process stands still, and all its processor time is charged."""
    e = cheat(tmp_path, built, "replies-early")
    assert e.code == 4 or e.scores["correct"] is False


def test_forged_scores_do_not_survive(tmp_path, built):
    e = cheat(tmp_path, built, "writes-scores")
    assert e.code == 0, e.err
    assert e.scores["correct"] is True and e.scores["score"] < 1000
    if e.scores["confined"]:
        assert os.listdir(e.output) == ["scores.json"]


def test_what_a_submission_prints_is_kept_apart(tmp_path, built):
    e = cheat(tmp_path, built, "prints")
    assert e.code == 0, e.err
    assert e.scores["correct"] is True and e.scores["score"] < 1000
    assert "forged" not in e.last.out + e.last.err
    log = os.path.join(e.output, "submission.log")
    with open(log) as f:
        assert "forged" in f.readline()
    assert os.path.getsize(log) <= 64 << 10


def test_a_kernel_cannot_reach_outside_of_itself(tmp_path, built):
    e = cheat(tmp_path, built, "escapes")
    assert e.code == 0, e.err
    if not e.scores["confined"]:
        pytest.skip("this kernel has no system call filters")
    assert e.scores["correct"] is True


# --- c-kernel: the judge's own parts ---

COMPILERS = {
    "gcc": ["gcc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "clang": ["clang", "-O1"],
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_parts_of_the_judge(tmp_path, compiler):
    """References against results worked out by hand, statistics, memory with guards; with warnings as errors."""
    src = os.path.join(KERNEL, "src")
    others = [f"{src}/{f}" for f in sorted(os.listdir(src)) if f.endswith(".c") and f not in ("judge.c", "runner.c", "glue.c")]
    program = str(tmp_path / "judge_test")
    subprocess.run([*COMPILERS[compiler], "-std=gnu17", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes",
                    "-Wmissing-prototypes", "-Wdouble-promotion", "-Werror", f"-I{src}", f"-I{KERNEL}/include",
                    "-o", program, f"{ROOT}/test/evaluators/judge_test.c", *others, "-lm"], check=True)
    r = subprocess.run([program], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


# --- cuda-kernel ---

@pytest.mark.needs("nvcc")
def test_cuda_kernel_compiles_and_refuses_without_a_gpu(tmp_path):
    e = evaluate(tmp_path, "cuda-kernel", sample("cuda-kernel/better"))
    assert e.phases["prepare"].code == 0, e.err
    if e.code == 0:  # there is a GPU
        assert e.scores["correct"] is True and e.scores["clock"] == "wall time"
        return
    assert e.code == 77 and e.scores is None
    assert e.err.startswith("this host has no usable CUDA GPU: ") and e.err.count("\n") == 1


@pytest.mark.needs("nvcc")
def test_cuda_kernel_that_does_not_compile_shows_the_compilers_words(tmp_path):
    e = evaluate(tmp_path, "cuda-kernel", sample("cuda-kernel/does-not-compile"))
    assert e.code == 3 and list(e.phases) == ["prepare"]
    assert "kernel.cu does not compile" in e.err and '"product" is undefined' in e.err


def test_cuda_kernel_without_a_compiler_says_so(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "awk", "head", "tr"):
        os.symlink(shutil.which(tool), tools / tool)
    # nvcc in its usual place cannot be hidden from here; a broken one of the same name comes first
    (tools / "nvcc").write_text("#!/bin/sh\nexit 1\n")
    (tools / "nvcc").chmod(0o755)
    e = evaluate(tmp_path, "cuda-kernel", sample("cuda-kernel/good"), env={"PATH": str(tools)})
    assert e.code == 77 and "no CUDA compiler" in e.err


@pytest.fixture(scope="module")
def fake_device(built):
    """Runners of cuda-kernel whose device is ordinary memory."""
    work = built.work
    subprocess.run(["g++", "-std=c++17", "-O2", "-Wall", "-DTASK_MATMUL", "-x", "c++", f"-I{FAKE_CUDA}",
                    f"-I{CUDA}/include", f"-I{KERNEL}/src", "-c", "-o", f"{work}/device.o", f"{CUDA}/src/runner.cu"],
                   check=True)
    subprocess.run(["g++", "-std=c++17", "-O2", "-DTASK_MATMUL", "-x", "c++", f"-I{CUDA}/include", f"-I{KERNEL}/src",
                    "-c", "-o", f"{work}/device-glue.o", f"{KERNEL}/src/glue.c"], check=True)

    def run(out, kernel, env=None):
        out.mkdir()
        subprocess.run(["gcc", "-O3", f"-I{KERNEL}/include", f"-I{CHEATS}", "-c", "-o", "device-kernel.o", kernel],
                       cwd=work, check=True)
        for program, kernel_object in (("device-baseline", "baseline.o"), ("device-kernel", "device-kernel.o")):
            subprocess.run(["g++", "-o", program, "device.o", "device-glue.o", kernel_object, "-lm"], cwd=work, check=True)
        r = subprocess.run(["./judge", "--device", "--host-shapes", "--task", "matmul", "--submission", "device-kernel", "--baseline",
                            "device-baseline", "--output", str(out)], cwd=work, capture_output=True, text=True,
                           env={"PATH": os.environ["PATH"], **(env or {})}, timeout=100)
        scores = out / "scores.json"
        return r, json.loads(scores.read_text()) if scores.exists() else None

    return run


def test_device_path_judges_right_and_wrong_kernels(tmp_path, fake_device):
    r, scores = fake_device(tmp_path / "right", sample("c-kernel/better/kernel.c"))
    assert r.returncode == 0, r.stderr
    assert scores["correct"] is True and scores["clock"] == "wall time" and scores["confined"] is False
    for shape in scores["shapes"].values():
        assert 0 < shape["submission"]["device_usec"] <= shape["submission"]["wall_usec"]
    r, scores = fake_device(tmp_path / "wrong", f"{CHEATS}/caches-by-shape/kernel.c")
    assert r.returncode == 0 and scores["score"] == 0 and "wrong result" in scores["why"]


def test_device_failure_is_told_in_the_devices_words(tmp_path, fake_device):
    r, scores = fake_device(tmp_path / "out", sample("c-kernel/good/kernel.c"), env={"CUDA_FAKE_FAILURE": "1"})
    assert r.returncode in (1, 4) and scores is None
    assert "failed on the device" in r.stderr and "submission: cudaDeviceSynchronize: an illegal memory access" in r.stderr


# --- predictions: metrics ---

sys.path.insert(0, os.path.join(BIN, "predictions"))
sys.dont_write_bytecode = True
import metrics  # noqa: E402


@pytest.mark.parametrize("name, reference, predicted, value", [
    ("accuracy", "aabb", "abbb", 3 / 4),
    # a: 1 hit, seen 2 + 1 -> 2/3; b: 2 hits, seen 2 + 3 -> 4/5
    ("macro_f1", "aabb", "abbb", (2 / 3 + 4 / 5) / 2),
    # c is never right: (2/3 + 2/3 + 0) / 3
    ("macro_f1", "aabb", "abbc", (2 / 3 + 2 / 4 * 1 + 0) / 3 + (2 / 4 - 2 / 4) / 3),
    ("mae", [1, 2, 3], [2, 2, 5], 1.0),
    ("rmse", [1, 2, 3], [2, 2, 5], math.sqrt(5 / 3)),
    ("rmse", [0, 0], [1e200, 1e200], 1e200),
    ("spearman", [1, 2, 3, 4], [10, 20, 30, 40], 1.0),
    ("spearman", [1, 2, 3, 4], [4, 3, 2, 1], -1.0),
    # d = 0, 1, -1, 0: 1 - 6 * 2 / (4 * 15)
    ("spearman", [1, 2, 3, 4], [1, 3, 2, 4], 0.8),
    # ties: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    ("spearman", [1, 2, 2, 4], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),
    ("spearman", [1, 2, 3], [7, 7, 7], 0.0),
    # 5 concordant pairs, 1 discordant
    ("kendall", [1, 2, 3, 4], [1, 3, 2, 4], 4 / 6),
    # 5 concordant, 1 pair tied in the reference: 5 / sqrt(5 * 6)
    ("kendall", [1, 2, 2, 4], [1, 2, 3, 4], 5 / math.sqrt(5 * 6)),
    ("kendall", [1, 1, 1], [1, 2, 3], 0.0),
])
def test_metrics_by_hand(name, reference, predicted, value):
    assert metrics.METRICS[name][0](list(reference), list(predicted)) == pytest.approx(value, abs=1e-12)


def kendall_by_pairs(a, b):
    n = len(a)
    sign = lambda x: (x > 0) - (x < 0)  # noqa: E731
    pairs = [(sign(a[i] - a[j]), sign(b[i] - b[j])) for i in range(n) for j in range(i)]
    up = math.sqrt(sum(x != 0 for x, _ in pairs)) * math.sqrt(sum(y != 0 for _, y in pairs))
    return sum(x * y for x, y in pairs) / up if up else 0.0


def test_kendall_in_n_log_n_equals_the_definition():
    rng = random.Random(7)
    for n in (1, 2, 3, 5, 8, 33, 100):
        for values in (3, 10, 10**6):
            a = [rng.randrange(values) for _ in range(n)]
            b = [rng.randrange(values) for _ in range(n)]
            assert metrics.kendall(a, b) == pytest.approx(kendall_by_pairs(a, b), abs=1e-12)


# --- predictions: the program ---

def test_prediction_samples(tmp_path):
    good = evaluate(tmp_path / "good", "predictions", sample("predictions/good"))
    better = evaluate(tmp_path / "better", "predictions", sample("predictions/better"))
    assert good.code == 0 and better.code == 0, good.err + better.err
    assert set(good.scores) == {"score", "accuracy", "macro_f1", "mae", "rmse", "spearman", "kendall", "rows"}
    assert good.scores["score"] == good.scores["accuracy"] == 0.76 and good.scores["rows"] == 50
    assert better.scores["accuracy"] == 0.96 and better.scores["mae"] < good.scores["mae"]
    assert good.progress[0]["text"] == "reading the predictions" and better.progress[-1]["done"] == better.progress[-1]["total"]


def test_prediction_samples_are_what_make_py_makes(tmp_path):
    for name in ("good", "better"):
        (tmp_path / name).mkdir()
    subprocess.run([sample("predictions/make.py"), f"{BIN}/predictions/data", str(tmp_path)], check=True)
    for name in ("good/predictions.csv", "better/predictions.jsonl"):
        with open(sample("predictions/" + name)) as f:
            assert (tmp_path / name).read_text() == f.read()


def test_the_shipped_data_fits_together():
    rows = {}
    for name in ("train", "test", "reference"):
        with open(f"{BIN}/predictions/data/{name}.csv") as f:
            rows[name] = [line.split(",")[0] for line in f][1:]
    assert rows["test"] == rows["reference"] and len(rows["test"]) == 50
    assert len(set(rows["train"]) | set(rows["test"])) == 150


SPECIES = ["--metric", "accuracy:species"]
WIDTH = ["--metric", "mae:petal_width"]


def good_text():
    with open(sample("predictions/good/predictions.csv")) as f:
        return f.read()


def as_json_lines(text):
    header, *rows = (line.split(",") for line in text.splitlines())
    return "".join(json.dumps(dict(zip(header, row))) + "\n" for row in rows)


def change_line(text, number, new):
    lines = text.splitlines(keepends=True)
    lines[number - 1] = new
    return "".join(lines)


def in_csv(change):
    return "predictions.csv", lambda: change(good_text())


def in_json(change):
    return "predictions.jsonl", lambda: change(as_json_lines(good_text()))


BAD_PREDICTIONS = {
    "empty": (in_csv(lambda t: ""), "predictions.csv: is empty; the first line must name the columns"),
    "no rows": (in_csv(lambda t: "id,species,petal_width\n"), "predictions.csv: has no rows"),
    "no id column": (in_csv(lambda t: t.replace("id,", "name,", 1)), "line 2: no column 'id'; there is 'name', 'species'"),
    "wrong column": (in_csv(lambda t: t.replace("species", "label", 1)), "line 2: no column 'species'"),
    "column twice": (in_csv(lambda t: t.replace("species", "id", 1)), "line 1: column 'id' is named twice"),
    "missing": (in_csv(lambda t: change_line(t, 9, "")), "no prediction for the id 'iris-024'"),
    "many missing": (in_csv(lambda t: "".join(t.splitlines(True)[:40])), "and 10 more"),
    "twice": (in_csv(lambda t: t + "iris-003,setosa,1\n"), "line 52: the id 'iris-003' was given in line 2 already"),
    "extra": (in_csv(lambda t: t + "iris-004,setosa,1\n"), "line 52: the id 'iris-004' is not in the reference set"),
    "short row": (in_csv(lambda t: change_line(t, 5, "iris-012\n")), "line 5: 1 cells, but the header has 3"),
    "long row": (in_csv(lambda t: change_line(t, 5, "iris-012,a,1,2\n")), "line 5: 4 cells, but the header has 3"),
    "open quote": (in_csv(lambda t: change_line(t, 51, 'iris-150,"a,1')), "unexpected end of data"),
    "latin 1": (in_csv(lambda t: t.replace("virginica", "virgínica").encode("latin-1")), "is not UTF-8 text (byte 0xed)"),
    "utf 16": (in_csv(lambda t: t.encode("utf-16-le")), "line 1: has a NUL byte; is this UTF-16?"),
    "nan": (in_csv(lambda t: change_line(t, 7, "iris-018,setosa,nan\n")), "line 7: petal_width: 'nan' is not a finite number"),
    "overflow": (in_csv(lambda t: change_line(t, 7, "iris-018,setosa,1e999\n")), "line 7: petal_width: '1e999' is not a finite"),
    "no number": (in_csv(lambda t: change_line(t, 7, "iris-018,setosa,\n")), "line 7: petal_width: '' is not a number"),
    "python number": (in_csv(lambda t: change_line(t, 7, "iris-018,setosa,1_0\n")), "line 7: petal_width: '1_0' is not a number"),
    "no label": (in_csv(lambda t: change_line(t, 7, "iris-018,,1\n")), "line 7: species: '' is not a label"),
    "not json": (in_json(lambda t: change_line(t, 3, "id=1\n")), "predictions.jsonl: line 3: Expecting value"),
    "json list": (in_json(lambda t: change_line(t, 3, "[1]\n")), "line 3: is not a JSON object"),
    "json nan": (in_json(lambda t: change_line(t, 3, '{"id": "iris-006", "petal_width": NaN}\n')), "line 3: NaN is not"),
    "json key twice": (in_json(lambda t: change_line(t, 3, '{"id": "a", "id": "b"}\n')), "line 3: key 'id' is given twice"),
    "json id": (in_json(lambda t: change_line(t, 3, '{"id": null}\n')), "line 3: the id null is neither text nor a whole"),
    "json number": (in_json(lambda t: change_line(t, 1, '{"id": "iris-003", "species": "a", "petal_width": [1]}\n')),
                    "line 1: petal_width: [1] is not a number"),
    "json label": (in_json(lambda t: change_line(t, 1, '{"id": "iris-003", "species": true, "petal_width": 1}\n')),
                   "line 1: species: true is not a label"),
    "json depth": (in_json(lambda t: change_line(t, 2, "[" * 100000 + "\n")), "line 2: "),
    "control bytes": (in_csv(lambda t: t + "\x1b[31m,a,1\n"), r"the id '\x1b[31m' is not in the reference set"),
}


@pytest.mark.parametrize("case", BAD_PREDICTIONS)
def test_bad_predictions_are_refused_in_one_sentence(tmp_path, case):
    (name, make), sentence = BAD_PREDICTIONS[case]
    text = make()
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    e = evaluate(tmp_path, "predictions", tmp_path / "submission", args=SPECIES + WIDTH)
    assert e.code == 3 and e.scores is None
    assert sentence in e.err and e.err.count("\n") == 1 and e.err.isascii() and "\x1b" not in e.err


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "submission").mkdir()
    with open(tmp_path / "submission/predictions.csv", "wb") as f:
        f.truncate(1 << 33)
    e = evaluate(tmp_path, "predictions", tmp_path / "submission")
    assert e.code == 3 and "more than the 67108864 allowed" in e.err


@pytest.mark.parametrize("make, sentence", [
    (lambda p: None, "neither predictions.csv nor predictions.jsonl"),
    (lambda p: [(p / n).write_text("") for n in ("predictions.csv", "predictions.jsonl")], "has both predictions.csv and"),
    (lambda p: os.mkfifo(p / "predictions.csv"), "is not a regular file"),
    (lambda p: os.symlink("/etc/passwd", p / "predictions.csv"), "cannot be opened"),
    (lambda p: (p / "predictions.csv").mkdir(), "is not a regular file"),
], ids=["none", "both", "fifo", "link", "folder"])
def test_what_is_no_file_of_predictions_is_refused(tmp_path, make, sentence):
    (tmp_path / "submission").mkdir()
    make(tmp_path / "submission")
    e = evaluate(tmp_path, "predictions", tmp_path / "submission")
    assert e.code == 3 and sentence in e.err


def test_byte_order_mark_crlf_quotes_and_column_order_are_fine(tmp_path):
    (tmp_path / "submission").mkdir()
    rows = [line.split(",") for line in good_text().splitlines()]
    text = "".join(f'"{width}",{species},"{key}"\r\n' for key, species, width in rows)
    (tmp_path / "submission/predictions.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    e = evaluate(tmp_path, "predictions", tmp_path / "submission")
    assert e.code == 0 and e.scores["score"] == 0.76, e.err


def test_the_same_metric_on_two_columns_has_two_names(tmp_path):
    args = ["--metric", "accuracy:species", "--metric", "accuracy:petal_width", "--metric", "mae:petal_width"]
    e = evaluate(tmp_path, "predictions", sample("predictions/good"), args=args)
    assert set(e.scores) == {"score", "accuracy_species", "accuracy_petal_width", "mae", "rows"}


@pytest.mark.parametrize("args, sentence", [
    (["--metric", "beauty:species"], "no metric 'beauty'"),
    (["--metric", "accuracy:nothing"], "the evaluator's reference set is broken"),
    (["--metric", "mae:species"], "the evaluator's reference set is broken"),
    (["--reference", "data/none.csv", "--metric", "accuracy:species"], "the evaluator's reference set is broken"),
])
def test_a_wrong_set_up_is_not_the_submitters_fault(tmp_path, args, sentence):
    e = evaluate(tmp_path, "predictions", sample("predictions/good"), args=args)
    assert e.code == 2 and sentence in e.err and e.scores is None
