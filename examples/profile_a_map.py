"""Why is it not faster?  Ask `parmap.profile`: here one item is far larger than all others.

python examples/profile_a_map.py                the summary
python examples/profile_a_map.py timeline.html  ... and the timeline, to open in a browser
"""

from __future__ import annotations

import sys

import parmap


def count_primes(below: int) -> int:
    sieve = bytearray([1]) * below
    sieve[:2] = b"\0\0"
    for number in range(2, int(below**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
    return sum(sieve)


limits = [200_000 + 10_000 * step for step in range(60)]
limits[37] = 30_000_000

with parmap.profile() as profile:
    primes = parmap.parallel_map(count_primes, limits, max_workers=2)

assert primes[0] == 17_984
profile.summary()
for path in sys.argv[1:]:
    profile.save(path)
