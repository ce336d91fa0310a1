"""BLAS and OpenMP: what the user has set wins, else a worker's share of the CPUs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from parmap import _nesting
from parmap._worker import threads

ALL = {
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _share_of_three(monkeypatch):
    monkeypatch.setattr(_nesting, "thread_variables", dict.fromkeys(ALL, "3"))


def test_where_nobody_has_set_anything_all_are_set():
    assert threads.unset({"HOME": "/"}) == dict.fromkeys(ALL, "3")


def test_what_the_user_has_set_for_one_library_is_left_alone():
    assert threads.unset({"MKL_NUM_THREADS": "8"}).keys() == ALL - {"MKL_NUM_THREADS"}


def test_what_the_user_has_set_for_all_of_them_holds_for_all():
    """A library's own variable would win over the one that the user has set."""
    assert threads.unset({"OMP_NUM_THREADS": "8"}) == {}


def test_a_worker_does_not_pass_its_own_share_on_as_if_a_user_had_set_it():
    environ = {"HOME": "/", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "8"}

    assert threads.users(environ) == {"HOME": "/", "MKL_NUM_THREADS": "8"}


class Library:
    def __init__(self, api: str, count: int) -> None:
        self.internal_api = api
        self.num_threads = count

    def set_num_threads(self, count: int) -> None:
        self.num_threads = count


def limited(monkeypatch, environ):
    libraries = [Library("openblas", 64), Library("openmp", 64), Library("mkl", 2)]
    control = SimpleNamespace(
        ThreadpoolController=lambda: SimpleNamespace(lib_controllers=libraries)
    )
    monkeypatch.setitem(sys.modules, "threadpoolctl", control)
    monkeypatch.setitem(sys.modules, "numpy", SimpleNamespace())
    monkeypatch.setattr("os.environ", environ)
    threads.limit(3)
    return [library.num_threads for library in libraries]


def test_libraries_that_are_loaded_already_are_limited_but_none_gets_more(monkeypatch):
    assert limited(monkeypatch, {}) == [3, 3, 2]


def test_loaded_libraries_keep_what_the_user_has_set(monkeypatch):
    assert limited(monkeypatch, {"OPENBLAS_NUM_THREADS": "64"}) == [64, 3, 2]
    assert limited(monkeypatch, {"OMP_NUM_THREADS": "64"}) == [64, 64, 2]


def test_without_threadpoolctl_nothing_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setitem(sys.modules, "numpy", SimpleNamespace())
    environ: dict[str, str] = {}
    monkeypatch.setattr("os.environ", environ)

    threads.limit(2)

    assert environ == dict.fromkeys(ALL, "2")
