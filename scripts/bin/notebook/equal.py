# SPDX-License-Identifier: MIT
"""Compares an answer of a stranger, parsed from JSON, with what is expected."""


def is_number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def equal(want, got, tolerance):
    """Of the same form and, numbers, as near as `tolerance` says, absolutely below 1 and relatively above."""
    if isinstance(want, list):
        return isinstance(got, list) and len(want) == len(got) and all(
            equal(w, g, tolerance) for w, g in zip(want, got))
    if isinstance(want, dict):
        return isinstance(got, dict) and want.keys() == got.keys() and all(
            equal(w, got[k], tolerance) for k, w in want.items())
    if is_number(want) and is_number(got):
        try:
            return want == got or abs(want - got) <= tolerance * max(1, abs(want))
        except OverflowError:
            return False
    return type(want) is type(got) and want == got
