"""A scenario whose contestants misbehave, each in its own way; for tests/docs/test_benchmarks.py."""

from __future__ import annotations

import os
import signal

from benchmarks.harness.scenario import Contestant, Scenario, Skipped

MOODS = ("fine", "dies", "raises", "is wrong", "skips", "hangs")


def run(job):
    mood = job.peer.options["mood"]
    if mood == "dies":
        os._exit(7)
    if mood == "raises":
        raise RuntimeError("no mood for work")
    if mood == "skips":
        raise Skipped("not today")
    if mood == "hangs":
        if os.fork() == 0:
            signal.pause()
        signal.pause()
    with job.measured():
        results = job.peer.map(abs, [-1])
    job.check(results == ([2] if mood == "is wrong" else [1]), "two and two is five")


def contestants(variant):
    return [
        Contestant(mood, "loop", options=(("mood", mood),))
        for mood in MOODS
        if (mood == "hangs") == (variant == "hangs")
    ]


SCENARIO = Scenario(run, contestants, ("", "hangs"), bound=20.0)
