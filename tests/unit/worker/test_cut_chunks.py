"""A chunk that is cut short, at each moment at which that can happen, loses and repeats nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from parmap._wire import frames as fr
from parmap._wire.frames import Frame, FrameReader
from parmap._wire.payload import ERROR, pack_values, unpack
from parmap._wire.pickling import Codec
from parmap._worker import gathered, hygiene, tasks
from parmap._worker.tasks import ChunkRun
from parmap._worker.terms import Terms

ITEMS = 6
FIRST = 100
CHUNK = 7


class Wire:
    """What the worker has said."""

    def __init__(self):
        self.frames: list[Frame] = []

    def send_all(self, buffers, fds=()):
        reader = FrameReader()
        for piece in buffers:
            view = memoryview(piece)
            while view:
                buffer = reader.get_buffer()
                size = min(len(view), len(buffer))
                buffer[:size] = view[:size]
                self.frames += reader.received(size)
                view = view[size:]


class Page:
    """The control page."""

    drop = 0
    running = 0
    began = 0

    def cut(self, chunk=CHUNK):
        """What the parent does: the number, and then the signal."""
        self.drop = chunk
        if hygiene.on_cut is not None:
            hygiene.on_cut()


class Interrupted:
    """The items still to come; once they have been counted, before anything is done about it, the
    signal comes again."""

    def __init__(self, items, page):
        self._items = items
        self._page = page
        self._comes_again = True

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._items)

    def __length_hint__(self):
        left = self._items.__length_hint__()
        if self._comes_again and self._page.drop:
            self._comes_again = False
            self._page.cut()
        return left


def run(fn, page, *, marked, stops=False, count=ITEMS, interrupted=False, more_flags=0):
    wire = Wire()
    flags = fr.FLAG_BLOCK | (fr.FLAG_MARK if marked else 0) | more_flags
    flags |= fr.FLAG_STOP_ON_FAILURE if stops else 0
    frame = Frame(fr.CHUNK, chunk=CHUNK, first=FIRST, count=count, flags=flags)
    pretended: Any = wire
    chunk = ChunkRun(frame, list(range(count)), fn, Codec("to caller"), pretended, page, Terms())
    if interrupted:
        chunk._rest = Interrupted(chunk._rest, page)
    chunk.run()
    return wire.frames


def outcomes(frames):
    """Index -> what came of it, from all reports; they follow each other."""
    seen: dict[int, object] = {}
    for frame in frames:
        if frame.kind == fr.RESULTS:
            assert frame.first == FIRST + len(seen)
            block = bool(frame.flags & fr.FLAG_BLOCK)
            values = unpack(frame.segments, (), block, Codec("to worker"))
            for place, value in enumerate(values):
                index = frame.first + place - FIRST
                failed = not block and value.kind == ERROR
                seen[index] = "error" if failed else value if block else value.load()
    return seen


@pytest.fixture(autouse=True)
def signals(monkeypatch):
    monkeypatch.setattr(hygiene, "hears_cuts", True)
    yield
    assert hygiene.on_cut is None, "a later signal would cut a chunk that is over"


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("inside", range(ITEMS))
@pytest.mark.parametrize("fails", [None, 0, 3, ITEMS - 1])
def test_a_cut_inside_any_item_gives_back_exactly_those_behind_it(marked, inside, fails):
    page, ran = Page(), []

    def fn(x):
        ran.append(x)
        if x == inside:
            page.cut()
        if x == fails:
            raise ValueError(x)
        return -x

    frames = run(fn, page, marked=marked)

    assert ran == list(range(inside + 1))
    assert outcomes(frames) == {x: "error" if x == fails else -x for x in ran}
    (told,) = [frame.first for frame in frames if frame.kind == fr.CUT]
    assert told == FIRST + inside + 1
    assert frames[-1].flags & fr.FLAG_LAST


@pytest.mark.parametrize("marked", [True, False])
def test_a_cut_before_the_chunk_begins_gives_it_back_whole(marked):
    page = Page()
    page.cut()

    frames = run(pytest.fail, page, marked=marked)

    assert outcomes(frames) == {}
    assert frames[-1].flags & fr.FLAG_LAST


@pytest.mark.parametrize("marked", [True, False])
def test_a_signal_for_an_earlier_chunk_changes_nothing(marked):
    page = Page()

    def fn(x):
        page.cut(CHUNK - 1)
        return x

    assert outcomes(run(fn, page, marked=marked)) == {x: x for x in range(ITEMS)}


@pytest.mark.parametrize("marked", [True, False])
def test_two_signals_are_as_good_as_one(marked):
    page = Page()

    def fn(x):
        if x == 2:
            page.cut()
            page.cut()
        return x

    assert outcomes(run(fn, page, marked=marked)) == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("marked", [True, False])
def test_a_signal_within_the_handler_of_the_one_before_takes_nothing_away_twice(marked):
    page = Page()

    def fn(x):
        if x == 2:
            page.cut()
        return x

    frames = run(fn, page, marked=marked, interrupted=True)

    assert [frame.first for frame in frames if frame.kind == fr.CUT] == [FIRST + 3]
    assert outcomes(frames) == {0: 0, 1: 1, 2: 2}


def test_a_signal_while_the_page_is_looked_at_takes_nothing_away_twice(monkeypatch):
    """Behind a report the worker looks by itself, and then the signal comes."""
    monkeypatch.setattr(tasks, "REPORT_EVERY_NS", -1)
    page = Page()

    def fn(x):
        if x == 2:
            page.drop = CHUNK
        return x

    frames = run(fn, page, marked=True, interrupted=True)

    assert {frame.first for frame in frames if frame.kind == fr.CUT} <= {FIRST + 3}
    assert outcomes(frames) == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("marked", [True, False])
def test_a_signal_while_results_go_ahead_says_nothing_in_the_middle_of_them(marked, monkeypatch):
    """A question where the worker is comes as the same signal, and the page still has the number."""
    page, packing, asked = Page(), threading.Event(), threading.Event()

    def pack(outcomes, codec, what):
        if threading.current_thread() is not threading.main_thread():
            packing.set()
            assert asked.wait(20)
        return pack_values(outcomes, codec, what)

    def fn(x):
        if x == 2:
            page.cut()
            assert packing.wait(20)
            page.cut()
            asked.set()
        return x

    monkeypatch.setattr(gathered, "pack_values", pack)
    frames = run(fn, page, marked=marked)

    assert [frame.kind for frame in frames] == [fr.CUT, fr.RESULTS, fr.RESULTS]
    assert outcomes(frames) == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("marked", [True, False])
def test_what_could_not_go_ahead_is_no_silent_loss(marked, monkeypatch):
    page = Page()

    def pack(outcomes, codec, what):
        raise OSError("the parent is gone")

    def fn(x):
        if x == 2:
            page.cut()
        return x

    monkeypatch.setattr(gathered, "pack_values", pack)
    with pytest.raises(OSError, match="the parent is gone"):
        run(fn, page, marked=marked)


@pytest.mark.parametrize("marked", [True, False])
def test_where_the_signal_is_never_heard_the_page_is_looked_at(marked, monkeypatch):
    monkeypatch.setattr(hygiene, "hears_cuts", False)
    page = Page()

    def fn(x):
        if x == 2:
            page.drop = CHUNK
        return x

    assert outcomes(run(fn, page, marked=marked)) == {0: 0, 1: 1, 2: 2}


def test_nothing_is_said_in_the_middle_of_a_report(monkeypatch):
    """The signal comes while results are sent: the frame in the middle of another would be the end."""
    monkeypatch.setattr(tasks, "REPORT_EVERY_NS", -1)
    page = Page()
    reported = []

    def pack(outcomes, codec, what):
        reported.append(len(outcomes))
        if len(reported) == 2:
            page.cut()
        return pack_values(outcomes, codec, what)

    monkeypatch.setattr(gathered, "pack_values", pack)
    frames = run(lambda x: x, page, marked=True)

    assert outcomes(frames) == {0: 0, 1: 1}
    assert [frame.kind for frame in frames] == [fr.RESULTS] * 3


@pytest.mark.parametrize("marked", [True, False])
def test_the_first_failure_ends_the_chunk_if_the_call_wants_that(marked):
    def fn(x):
        return 1 // (x - 2)

    assert set(outcomes(run(fn, Page(), marked=marked, stops=True))) == {0, 1, 2}


@pytest.mark.parametrize(("flags", "reports"), [(0, 10), (fr.FLAG_UNHURRIED, 2)])
def test_where_all_results_are_awaited_together_reports_are_rare(flags, reports, monkeypatch):
    """Each item takes a little more than the time between two reports."""
    now = 0
    monkeypatch.setattr(tasks, "perf_counter_ns", lambda: now)

    def fn(x):
        nonlocal now
        now += tasks.REPORT_EVERY_NS + 1
        return x

    frames = run(fn, Page(), marked=True, count=10, more_flags=flags)

    assert [frame.kind for frame in frames] == [fr.RESULTS] * reports
    assert outcomes(frames) == {x: x for x in range(10)}
