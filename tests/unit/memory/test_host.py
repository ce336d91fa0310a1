"""What this operating system lacks is done in another way."""

from __future__ import annotations

import os
import time

from parmap._memory import host


def test_where_nothing_yields_a_cpu_a_sleep_of_nothing_does(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    host.give_way()
    monkeypatch.delattr(os, "sched_yield", raising=False)
    host.give_way()
    assert slept[-1:] == [0]
