#!/usr/bin/python3 -B
# SPDX-License-Identifier: MIT
"""Evaluator: a file of predictions against a reference set. See --help and the bin folder's README.

Exit status: 0 scored, 2 this evaluator is set up wrongly, 3 the submission cannot be scored.
"""

import argparse
import contextlib
import json
import math
import os
import sys

from metrics import METRICS
from reading import BadTable, check_complete, find_predictions, quoted, read_table

EXIT_SETUP = 2
EXIT_SUBMISSION = 3


def parse_metric(text):
    name, _, column = text.partition(":")
    if name not in METRICS:
        raise argparse.ArgumentTypeError(f"no metric {name!r}; there is {', '.join(METRICS)}")
    return name, column


def parse_args(argv):
    p = argparse.ArgumentParser(description="Compares predictions with reference values.")
    p.add_argument("--metric", action="append", type=parse_metric, required=True,
                   metavar="NAME[:COLUMN]", help="repeatable; the first one is the score")
    p.add_argument("--id", default="id", metavar="COLUMN", help="the column that names a row")
    p.add_argument("--column", default="label", help="the column of metrics that name none")
    p.add_argument("--reference", default="data/reference.csv", metavar="FILE",
                   help=".csv or .jsonl, relative to the evaluator's folder")
    p.add_argument("--file", default="predictions", metavar="STEM",
                   help="the submission's file without .csv or .jsonl")
    p.add_argument("submission", help="the submission's folder")
    args = p.parse_args(argv)
    args.metric = [(name, column or args.column) for name, column in args.metric]
    return args


class Progress:
    """Writes one JSON line for each step to $ZR_PROGRESS_FD, or nothing without it."""

    def __init__(self, total):
        self.fd = os.environ.get("ZR_PROGRESS_FD")
        self.done = 0
        self.total = total

    def step(self, text):
        if self.fd:
            line = json.dumps({"done": self.done, "total": self.total, "text": text})
            with contextlib.suppress(OSError):  # nobody listens: no reason to fail
                os.write(int(self.fd), line.encode() + b"\n")
        self.done += 1


def as_number(value, name, line, column):
    """A finite number from a CSV cell or a JSON value."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        if isinstance(value, str) and ("_" in value or not value.isascii()):
            raise ValueError  # Python's float() takes 1_000 and digits of other scripts
        number = float(value)
    except (ValueError, OverflowError):
        raise BadTable(f"{name}: line {line}: {column}: {quoted(value)} is not a number") from None
    if not math.isfinite(number):
        raise BadTable(f"{name}: line {line}: {column}: {quoted(value)} is not a finite number")
    return number


def as_label(value, name, line, column):
    """A label is text; JSON's whole numbers are labels too, so that 1 and "1" are the same."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise BadTable(f"{name}: line {line}: {column}: {quoted(value)} is not a label")
    return str(value)


def column_values(table, ids, name, metrics, columns):
    """The values of each metric's column as the metric wants them, in the order of `ids`."""
    found = {}
    for metric, column in metrics:
        convert = as_number if METRICS[metric][1] else as_label
        at = 1 + columns.index(column)
        found[metric, column] = [convert(table[i][at], name, table[i][0], column) for i in ids]
    return found


def load_reference(args, columns):
    base = os.environ.get("ZR_EVALUATOR") or os.path.dirname(os.path.abspath(__file__))
    table = read_table(os.path.join(base, args.reference), args.id, columns, args.reference)
    return table, column_values(table, table, args.reference, args.metric, columns)


def load_predictions(args, columns, reference):
    path = find_predictions(args.submission, args.file)
    name = os.path.basename(path)
    table = read_table(path, args.id, columns, name, known=reference)
    check_complete(table, reference, name)
    return column_values(table, reference, name, args.metric, columns)


def compute(args, truth, guess, progress):
    """The object that goes into scores.json."""
    names = [metric for metric, _ in args.metric]
    scores = {}
    for metric, column in args.metric:
        progress.step(f"{metric} of {column}")
        key = metric if names.count(metric) == 1 else f"{metric}_{column}"
        value = METRICS[metric][0](truth[metric, column], guess[metric, column])
        if not math.isfinite(value):
            raise BadTable(f"{metric} of {column} is not finite: the values are too large")
        scores[key] = value
    return {"score": next(iter(scores.values())), **scores}


def write_scores(scores):
    """By rename, so that a half written file can never be read."""
    folder = os.environ["ZR_OUTPUT"]
    with open(os.path.join(folder, "scores.json.new"), "w", encoding="utf-8") as f:
        json.dump(scores, f, allow_nan=False)
        f.write("\n")
    os.rename(os.path.join(folder, "scores.json.new"), os.path.join(folder, "scores.json"))
    print(json.dumps(scores, indent=2))


def fail(status, sentence):
    print(sentence, file=sys.stderr)
    return status


def main(argv):
    args = parse_args(argv)
    if "ZR_OUTPUT" not in os.environ:
        return fail(EXIT_SETUP, "ZR_OUTPUT is not set: this is an evaluator, run it by zr")
    columns = sorted({column for _, column in args.metric})
    progress = Progress(total=len(args.metric) + 1)
    try:
        reference, truth = load_reference(args, columns)
    except BadTable as e:
        return fail(EXIT_SETUP, f"the evaluator's reference set is broken: {e}")
    try:
        progress.step("reading the predictions")
        guess = load_predictions(args, columns, reference)
        scores = compute(args, truth, guess, progress)
    except BadTable as e:
        return fail(EXIT_SUBMISSION, str(e))
    write_scores({**scores, "rows": len(reference)})
    progress.step("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
