"""The same as a program: the arguments as JSON on stdin, the result as JSON on stdout."""
import json
import sys

(intervals,) = json.load(sys.stdin)
merged = []
for low, high in sorted(intervals):
    if merged and low <= merged[-1][1]:
        merged[-1][1] = max(merged[-1][1], high)
    else:
        merged.append([low, high])
json.dump(merged, sys.stdout)
