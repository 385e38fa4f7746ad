#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Evaluator, phase run: executes the submission's notebook, in a copy of its folder with data/ beside it.

Leaves executed.ipynb, also of a notebook that failed, and answers.json. Judges nothing.
Exit status: 0 executed, 3 the notebook cannot be executed, 4 a cell failed or there are no answers,
77 this host lacks the packages.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import child  # noqa: E402

try:
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor
    MISSING = None if importlib.util.find_spec("ipykernel") else "ipykernel"
except ImportError as problem:
    MISSING, ExecutePreprocessor = problem.name or "nbconvert", object

NOTEBOOK_MAX = 16 << 20


class Failure(Exception):
    """Why there is nothing to judge: exit status and sentence."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


def progress(done, total, text):
    with contextlib.suppress(OSError, KeyError, ValueError):  # nobody listens: no reason to fail
        line = json.dumps({"done": done, "total": total, "text": text})
        os.write(int(os.environ["ZR_PROGRESS_FD"]), line.encode() + b"\n")


class Executor(ExecutePreprocessor):
    """nbconvert's, which says before each code cell that it comes, and knows afterwards which was the last."""

    cell, cells = 0, 0

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "code":
            progress(self.cell, self.cells, f"cell {self.cell + 1} of {self.cells}")
            self.cell += 1
        return super().preprocess_cell(cell, resources, index)


def find_notebook(submission):
    names = sorted(n for n in os.listdir(submission) if n.endswith(".ipynb") and not n.startswith("."))
    if len(names) != 1:
        raise Failure(3, f"the submission has {len(names) or 'no'} notebooks (.ipynb), it must be one")
    return names[0]


def read_notebook(submission, name):
    raw = child.read_file(os.path.join(submission, name), NOTEBOOK_MAX)
    if raw is None:
        raise Failure(3, f"{child.shown(name)} is not a regular file of at most {NOTEBOOK_MAX} bytes")
    try:
        notebook = nbformat.reads(raw.decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except Exception as e:  # it has many ways to be surprised by a file
        said = str(e).strip().partition("\n")[0]
        raise Failure(3, f"{child.shown(name)} is not a notebook: {child.shown(said)}") from None
    return notebook


def work_folder(submission):
    """A copy of the submission that can be written to, with the evaluator's data in it."""
    folder = os.path.join(os.getcwd(), "notebook")
    try:
        shutil.copytree(submission, folder, symlinks=True)
        for top, _, _ in os.walk(folder):
            os.chmod(top, 0o700)
        if os.path.lexists(os.path.join(folder, "data")):
            raise Failure(3, "the submission has a folder 'data', where the evaluator's is to be")
        shutil.copytree(os.path.join(HERE, "data"), os.path.join(folder, "data"))
    except (OSError, shutil.Error) as e:
        raise Failure(3, f"the submission cannot be copied: {child.shown(str(e))}") from None
    return folder


def execute(notebook, folder, seconds):
    """Executes all cells in order, up to the first that fails; its outputs are in `notebook` either way."""
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    # The one kernel of this host, whatever the notebook asks for.
    executor = Executor(timeout=seconds, kernel_name="python3")
    executor.cells = total
    try:
        executor.preprocess(notebook, {"metadata": {"path": folder}})
    except CellExecutionError as e:
        why = f"raised {child.shown(f'{e.ename}: {e.evalue}')}"
    except CellTimeoutError:
        why = f"took longer than {seconds} s"
    except DeadKernelError:
        why = "ended the kernel"
    else:
        progress(total, total, "done")
        return
    raise Failure(4, f"cell {executor.cell} of {total} {why}")


def write(name, text):
    with open(os.path.join(os.environ["ZR_OUTPUT"], name), "w", encoding="utf-8", errors="backslashreplace") as f:
        f.write(text)


def main(argv):
    p = argparse.ArgumentParser()
    p.add_argument("--cell-seconds", type=int, default=60)
    p.add_argument("submission")
    args = p.parse_args(argv)
    if MISSING:
        raise Failure(77, f"this host cannot execute notebooks, Python's module {MISSING} is missing: "
                          "install Debian's packages jupyter-nbconvert and python3-ipykernel")
    name = find_notebook(args.submission)
    notebook = read_notebook(args.submission, name)
    folder = work_folder(args.submission)
    try:
        execute(notebook, folder, args.cell_seconds)
    finally:
        write("executed.ipynb", nbformat.writes(notebook))
    raw = child.read_file(os.path.join(folder, "answers.json"))
    if raw is None:
        raise Failure(4, f"the notebook left no file answers.json of at most {child.FILE_MAX} bytes")
    write("answers.json", raw.decode("utf-8", "replace"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failure as e:
        print(e, file=sys.stderr)
        sys.exit(e.status)
