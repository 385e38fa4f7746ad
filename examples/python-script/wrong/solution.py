"""Forgets to sort, and that an interval may lie within another."""


def merge(intervals):
    merged = []
    for low, high in intervals:
        if merged and low <= merged[-1][1]:
            merged[-1][1] = high
        else:
            merged.append([low, high])
    return merged
