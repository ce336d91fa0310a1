"""The two sides of a call, both in this process."""

from __future__ import annotations

import pytest

from parmap._wire.pickling import Codec


@pytest.fixture
def parent():
    return Codec("to worker")


@pytest.fixture
def worker():
    return Codec("to caller")
