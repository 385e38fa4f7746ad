#!/bin/sh
# SPDX-License-Identifier: MIT
# In the judge's image: nothing of the submission's is executed here.
set -eu
right=0 cases=0
for expected in "$ZR_EVALUATOR"/expected/*; do
	cases=$((cases + 1))
	if cmp -s "$expected" "$ZR_RUN_OUTPUT/${expected##*/}"; then
		right=$((right + 1))
	fi
done
printf '{"score": %d, "cases": %d}\n' "$right" "$cases" >"$ZR_OUTPUT/scores.json"
echo "$right of $cases are right"
