# SPDX-License-Identifier: MIT
"""Barriers: a test waits for a state, never for a time."""
import time


def wait_for(predicate, timeout=15, what=None, interval=0.02):
    """Calls predicate() until it returns something true, and returns that. An AssertionError inside counts as "not yet"
    and is what the failure shows."""
    deadline = time.monotonic() + timeout
    while True:
        seen = None
        try:
            value = predicate()
            if value:
                return value
            seen = f"last value: {value!r}"
        except AssertionError as e:
            seen = f"last: {e}"
        if time.monotonic() >= deadline:
            name = what or getattr(predicate, "__name__", "condition")
            raise AssertionError(f"waited {timeout} s for {name}; {seen}")
        time.sleep(interval)


def stays(predicate, seconds, what=None, interval=0.05):
    """For what must not happen: predicate() has to be true the whole time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert predicate(), f"did not stay so for {seconds} s: {what or predicate}"
        time.sleep(interval)
