"""A worker becomes kin of its parent: by its key, and by the tracker of named memory."""

from __future__ import annotations

import importlib
import os
import sys
from multiprocessing import process, resource_tracker
from types import ModuleType

import pytest

from parmap import _nesting
from parmap._calls import surroundings
from parmap._wire import kin


@pytest.fixture
def tracker(monkeypatch):
    """A way to a tracker of the test: what is told to it can be read."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for fd in (read_end, write_end):
        try:
            os.close(fd)
        except OSError:
            continue  # it was taken over, and closed


@pytest.fixture
def own(monkeypatch):
    """This process's tracker, of which the test decides."""

    class Tracker:
        _fd = None

    mine = Tracker()
    monkeypatch.setattr(resource_tracker, "_resource_tracker", mine)
    return mine


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_worker_that_has_no_tracker_takes_its_parents(own, tracker):
    kin.take_over(None, [tracker[1]])
    assert own._fd == tracker[1]


def test_a_tracker_that_watches_already_stays(own, tracker):
    own._fd = tracker[0]
    kin.take_over(None, [tracker[1]])
    assert own._fd == tracker[0]
    assert not is_open(tracker[1])


def test_a_key_is_taken_over_at_once_where_multiprocessing_is_there():
    before = process.current_process().authkey
    try:
        kin.take_over(b"another", [])
        assert process.current_process().authkey == b"another"
    finally:
        process.current_process().authkey = before


def test_memory_is_met_with_its_own_tracker_if_there_is_no_other(own, tracker):
    assert kin.meet_tracker(tracker[1], "name", lambda: "memory") == "memory"
    assert own._fd == tracker[1]


def test_the_same_tracker_hears_nothing(own, tracker):
    own._fd = os.dup(tracker[1])
    try:
        assert kin.meet_tracker(tracker[1], "name", lambda: "memory") == "memory"
    finally:
        os.close(own._fd)
    assert os.read(tracker[0], 100) == b""


@pytest.mark.parametrize("budget", [None, 1], ids=["caller", "worker"])
def test_of_two_trackers_the_one_that_is_not_answerable_forgets(budget, own, tracker, monkeypatch):
    """In a worker its own, for the parent is; else the sender's."""
    monkeypatch.setattr(_nesting, "budget", budget)
    other, own._fd = os.pipe()
    theirs = os.dup(tracker[1])
    try:
        kin.meet_tracker(theirs, "name", lambda: "memory")
        told = tracker[0] if budget is None else other
        assert os.read(told, 100) == b"UNREGISTER:name:shared_memory\n"
        assert not is_open(theirs)
    finally:
        os.close(other)
        os.close(own._fd)


def test_memory_that_is_gone_leaves_no_way_to_its_tracker_open(own, tracker):
    own._fd = tracker[0]

    def fail():
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        kin.meet_tracker(tracker[1], "name", fail)
    assert not is_open(tracker[1])


# ---------------------------------------------------------------------- what waits for a module


@pytest.fixture
def later(tmp_path, monkeypatch):
    """A module that nobody has imported yet."""
    (tmp_path / "imported_later.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        sys, "meta_path", [each for each in sys.meta_path if each is not kin._finder]
    )
    yield "imported_later"
    sys.modules.pop("imported_later", None)
    kin._waiting.pop("imported_later", None)


def test_what_waits_for_a_module_happens_once_and_after_it_was_loaded(later):
    seen = []
    kin._when_imported(later, lambda module: seen.append(module.VALUE))
    assert seen == []

    first = importlib.import_module(later)

    assert seen == [1]
    sys.modules.pop(later)
    __import__(later)
    assert seen == [1]
    kin._when_imported(later, lambda module: seen.append(module))
    assert seen[1:] == [sys.modules[later]] != [first]


def test_what_is_taken_back_meanwhile_does_not_happen(later):
    """The specification was found before, and the module is loaded afterwards."""
    from importlib.util import find_spec, module_from_spec

    kin._when_imported(later, lambda module: pytest.fail("nobody waits any more"))
    kin._when_imported("no_such_module_at_all", lambda module: pytest.fail("it is not there"))
    spec = find_spec(later)
    kin._waiting.pop(later)
    spec.loader.exec_module(module_from_spec(spec))

    assert find_spec("no_such_module_at_all") is None
    kin._waiting.pop("no_such_module_at_all")


# ---------------------------------------------------------------------- what a parent hands on


def test_a_parent_hands_on_its_key_and_its_trackers_descriptor(own, tracker, monkeypatch):
    own._fd = tracker[1]
    assert kin.authkey() == bytes(process.current_process().authkey)
    assert kin.tracker_fd() == tracker[1]


def test_a_tracker_is_started_only_for_who_has_named_memory(own, monkeypatch):
    """Else a worker starts its own when it needs one."""
    monkeypatch.setattr(resource_tracker, "getfd", lambda: 77, raising=False)
    monkeypatch.delitem(sys.modules, "multiprocessing.shared_memory", raising=False)
    assert kin.tracker_fd() is None
    monkeypatch.setitem(sys.modules, "multiprocessing.shared_memory", object())
    assert kin.tracker_fd() == 77


def test_without_multiprocessing_there_is_nothing_to_hand_on(monkeypatch):
    for name in ("multiprocessing.process", "multiprocessing.resource_tracker"):
        monkeypatch.delitem(sys.modules, name)
    assert (kin.authkey(), kin.tracker_fd()) == (None, None)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("multiprocessing.process", kin.authkey),
        ("multiprocessing.resource_tracker", kin.tracker_fd),
        ("logging", surroundings._log_levels),
    ],
)
def test_a_module_that_another_thread_is_importing_has_nothing_to_hand_on(monkeypatch, name, what):
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert not what()
