# SPDX-License-Identifier: MIT
"""The cache of submissions on an eval host stays under its size."""
import os

from lib.wait import wait_for

# Says that it runs, and waits; then reads its submission, which must be there still.
HOLD = """#!/bin/sh
touch {folder}/runs
while [ ! -e {folder}/go ]; do sleep 0.05; done
test "$(wc -c <"$ZR_SUBMISSION/answer")" -eq 700000
"""
READ = """#!/bin/sh
test "$(wc -c <"$ZR_SUBMISSION/answer")" -eq 700000
"""


def cached(site):
    return {name for name in os.listdir(os.path.join(site.state, "cache")) if len(name) == 64}


def submit(site, evaluator, author):
    if not any(c["label"] == evaluator for c in site.zr_json("challenges")):
        site.zr("challenges:add", evaluator, "--evaluator", evaluator)
    path = os.path.dirname(site.file(f"{author}/answer", os.urandom(700_000)))
    ident = site.zr_id("submissions:create", evaluator, path, "--author", author)
    digest = next(s["digest"] for s in site.zr_json("submissions") if str(s["id"]) == ident)
    return ident, digest.partition(":")[2]


def test_the_cache_stays_small_and_what_runs_stays_in_it(sandbox):
    site = sandbox.prepare()
    site.setting("cache_max", "1M")
    folder = os.path.dirname(site.file("barrier/x"))
    site.evaluator("hold", HOLD.format(folder=folder))
    site.evaluator("read", READ)
    held, held_hash = submit(site, "hold", "ann")
    worker = site.eval_worker()
    site.update_worker()
    running = site.zr_id("submissions:eval", held)
    wait_for(lambda: os.path.exists(os.path.join(folder, "runs")), 20)
    # Twice as much as the cache may hold, and the only one that may not go was used first.
    others = [submit(site, "read", author) for author in ("bob", "cay")]
    for ident, _ in others:
        site.wait_evaluation(site.zr_id("submissions:eval", ident), "completed")
    wait_for(lambda: cached(site) == {held_hash}, 60, "the others to leave the cache")
    worker.wait_log("left the cache")
    open(os.path.join(folder, "go"), "w").close()
    site.wait_evaluation(running, "completed")
    # What left is fetched anew.
    site.wait_evaluation(site.zr_id("submissions:eval", others[0][0]), "completed")
    wait_for(lambda: cached(site) == {others[0][1]}, 60, "the cache to be small again")
