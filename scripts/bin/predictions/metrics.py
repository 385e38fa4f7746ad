# SPDX-License-Identifier: MIT
"""The metrics. Each takes two lists of equal length, reference values first, and gives a float."""

import math


def accuracy(reference, predicted):
    return sum(r == p for r, p in zip(reference, predicted)) / len(reference)


def macro_f1(reference, predicted):
    """Mean of the F1 of every label that occurs in either list; a label never hit counts as 0."""
    labels = set(reference) | set(predicted)
    hits = dict.fromkeys(labels, 0)
    seen = dict.fromkeys(labels, 0)
    for r, p in zip(reference, predicted):
        seen[r] += 1
        seen[p] += 1
        hits[r] += r == p
    return math.fsum(2 * hits[x] / seen[x] for x in labels) / len(labels)


def mae(reference, predicted):
    return math.fsum(abs(r - p) for r, p in zip(reference, predicted)) / len(reference)


def rmse(reference, predicted):
    # hypot scales: the square of 1e200 would overflow
    return math.hypot(*(r - p for r, p in zip(reference, predicted))) / math.sqrt(len(reference))


def ranks(values):
    """1-based ranks; equal values share the mean of their places."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for i in order[start:end]:
            result[i] = (start + end + 1) / 2
        start = end
    return result


def spearman(reference, predicted):
    """Pearson's correlation of the ranks; 0 where one side is constant and has no order."""
    middle = (len(reference) + 1) / 2
    a = [x - middle for x in ranks(reference)]
    b = [x - middle for x in ranks(predicted)]
    spread = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b)) / spread if spread else 0.0


def count_swaps(values):
    """Sorts `values` in place by merging; returns how many pairs were in the wrong order."""
    swaps = 0
    width = 1
    while width < len(values):
        for low in range(0, len(values) - width, 2 * width):
            left = values[low : low + width]
            right = values[low + width : low + 2 * width]
            i = j = 0
            for k in range(low, low + len(left) + len(right)):
                if j == len(right) or (i < len(left) and left[i] <= right[j]):
                    values[k] = left[i]
                    i += 1
                else:
                    values[k] = right[j]
                    j += 1
                    swaps += len(left) - i
        width *= 2
    return swaps


def tied_pairs(values):
    counts = {}
    for x in values:
        counts[x] = counts.get(x, 0) + 1
    return sum(c * (c - 1) // 2 for c in counts.values())


def kendall(reference, predicted):
    """Kendall's tau-b by Knight's method, n log n; 0 where one side is constant."""
    pairs = sorted(zip(reference, predicted))
    total = len(pairs) * (len(pairs) - 1) // 2
    tied_r, tied_p, tied_both = tied_pairs(reference), tied_pairs(predicted), tied_pairs(pairs)
    discordant = count_swaps([p for _, p in pairs])
    concordant = total - tied_r - tied_p + tied_both - discordant
    spread = math.sqrt(total - tied_r) * math.sqrt(total - tied_p)
    return (concordant - discordant) / spread if spread else 0.0


# name -> (function, whether it compares numbers; else it compares labels)
METRICS = {
    "accuracy": (accuracy, False),
    "macro_f1": (macro_f1, False),
    "mae": (mae, True),
    "rmse": (rmse, True),
    "spearman": (spearman, True),
    "kendall": (kendall, True),
}
