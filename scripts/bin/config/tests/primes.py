#!/usr/bin/python3 -IB
# SPDX-License-Identifier: MIT
"""Counts the primes below `limit` by `method`, and compares with what a table says for some limits."""
import json
import sys

KNOWN = {10: 4, 100: 25, 1000: 168, 10000: 1229, 100000: 9592, 1000000: 78498, 10000000: 664579}


def by_division(limit):
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def by_sieve(limit):
    prime = bytearray([0, 0]) + bytearray([1]) * (limit - 2)
    for n in range(2, int(limit**0.5) + 1):
        if prime[n]:
            prime[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(prime)


parameters = json.load(sys.stdin)
limit = parameters["limit"]
count = {"division": by_division, "sieve": by_sieve}[parameters["method"]](limit)
if KNOWN.get(limit, count) != count:
    sys.exit(f"{count} primes below {limit}, it must be {KNOWN[limit]}")
print(json.dumps({"value": count}))
