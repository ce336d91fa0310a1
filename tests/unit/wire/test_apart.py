"""A part that may be lost takes nothing else along."""

from __future__ import annotations

import pickle
import threading

import pytest

from parmap._wire.apart import Apart
from parmap._wire.pickling import Codec


class Explosive:
    def __reduce__(self):
        return int, ("no number",)


@pytest.fixture
def scope():
    return Codec("to worker").scope


@pytest.mark.parametrize(
    ("part", "arrives"),
    [([1, {"a": 2}], [1, {"a": 2}]), (threading.Lock(), None), (Explosive(), None)],
    ids=["sound", "cannot be pickled", "cannot be unpickled"],
)
def test_a_part_arrives_or_none_does_and_its_neighbours_always(part, arrives, scope):
    assert pickle.loads(pickle.dumps(("before", Apart(part, scope), "after"))) == (
        "before", arrives, "after",
    )  # fmt: skip
