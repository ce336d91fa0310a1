"""CPython's tests of `multiprocessing.Pool`, run against `parmap.compat.Pool`.

They come with the Python that runs (`test._test_multiprocessing`).  Left out, each with a counterpart
in test_compat_pool.py:

- `test_traceback` asks that the cause be a `RemoteTraceback` (ours is the real traceback);
- `test_make_pool`, `test_resource_warning`, `test_pool_worker_lifetime` read private attributes;
- `test_map_unplicklable` asks for the bare error of a ``__reduce__`` (ours is the cause of a
  `SerializationError`), `test_unpickleable_result` that a lambda cannot be a result;
- `test_imap_handle_iterable_exception` asks that items which were read before the input failed are
  lost with their chunk (ours come first).
"""

from __future__ import annotations

import multiprocessing
import unittest

import pytest

from parmap import compat

theirs = pytest.importorskip("test._test_multiprocessing", reason="this Python ships no tests")

NOT_OURS = (
    "test_map_unplicklable",
    "test_traceback",
    "test_make_pool",
    "test_resource_warning",
    "test_imap_handle_iterable_exception",
)
NOT_OURS_OF_LIFETIMES = (
    "test_pool_worker_lifetime",
    # starts a script of its own that makes multiprocessing's pool
    "test_worker_finalization_via_atexit_handler_of_multiprocessing",
)


class TestPool(theirs._TestPool, unittest.TestCase):
    TYPE = "processes"
    Pool = staticmethod(compat.Pool)


class TestPoolWorkerLifetime(theirs._TestPoolWorkerLifetime, unittest.TestCase):
    TYPE = "processes"

    def setUp(self):
        super().setUp()
        patch = pytest.MonkeyPatch()
        patch.setattr(multiprocessing, "Pool", compat.Pool)
        self.addCleanup(patch.undo)


for name in NOT_OURS:
    setattr(TestPool, name, None)
for name in NOT_OURS_OF_LIFETIMES:
    setattr(TestPoolWorkerLifetime, name, None)
