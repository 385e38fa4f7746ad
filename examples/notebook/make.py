#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the sample notebooks: make.py [FOLDER]."""
import json
import os
import sys

READ = """import csv, json, statistics
with open("data/springs.csv") as f:
    rows = list(csv.DictReader(f))
mass = [float(r["mass_kg"]) for r in rows]
length = [float(r["length_mm"]) for r in rows]
print(len(rows), "rows")"""
FIT = """fit = statistics.linear_regression(mass, length)
fit"""
ANSWER = """answers = {"rows": len(rows), "mean_length": statistics.mean(length),
           "slope": fit.slope, "rest_length": fit.intercept}
with open("answers.json", "w") as f:
    json.dump(answers, f)"""
FORGE = """import os
for folder in (os.environ["ZR_OUTPUT"], "/output", "/evaluator", "/evaluator/reference"):
    for name in ("scores.json", "expected.json"):
        try:
            with open(os.path.join(folder, name), "w") as f:
                f.write('{"score": 1000}')
        except OSError as e:
            print(e)"""
PEEK = """with open("/evaluator/reference/expected.json") as f:
    expected = json.load(f)
json.dump({k: v["result"] for k, v in expected.items()}, open("answers.json", "w"))"""

SAMPLES = {
    "good": [READ, FIT, ANSWER],
    "wrong": [READ, FIT.replace("(mass, length)", "(length, mass)"), ANSWER],
    "raises": [READ, "print(undefined)", ANSWER],
    "no-answers": [READ, FIT],
    "never-ends": [READ, "while True:\n    pass"],
    "exits": [READ, FIT, ANSWER, "import os\nos._exit(0)"],
    "peeks": [READ, PEEK],
    "forges-scores": [READ, FORGE, 'json.dump({"score": 1000}, open("answers.json", "w"))'],
}


def notebook(sources):
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A spring and ten masses"}]
    for i, source in enumerate(sources):
        cells.append({"cell_type": "code", "execution_count": None, "id": f"cell-{i + 1}", "metadata": {}, "outputs": [],
                      "source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


here = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
for name, sources in SAMPLES.items():
    os.makedirs(os.path.join(here, name), exist_ok=True)
    with open(os.path.join(here, name, "springs.ipynb"), "w", encoding="utf-8") as f:
        json.dump(notebook(sources), f, indent=1)
        f.write("\n")
