"""The log: what a follower gets, and when it is told to look again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parmap._memory import log as module
from parmap._memory.extents import Extents
from parmap._memory.log import END, LENGTH_BITS, NEXT, PREFIX, STALE, Log


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(module, "_LEAST", 256)
    return Log.create()


def steps_in(data):
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + PREFIX], "little")
        found.append(data[at + PREFIX : at + PREFIX + size])
        at += PREFIX + size
    return found


def follow(log, seen):
    data, whole, end = log.since(seen)
    return steps_in(data), whole, end


def test_what_is_appended_is_followed(log):
    assert follow(log, STALE) == ([], True, 0)
    assert log.append(b"one")
    assert log.append(b"two")
    steps, whole, end = follow(log, STALE)
    assert (steps, whole) == ([b"one", b"two"], True)
    assert follow(log, end) == ([], False, end)
    assert log.append(b"three")
    assert follow(log, end)[:2] == ([b"three"], False)


def test_a_full_area_is_told_and_a_new_generation_begins_with_the_snapshot(log):
    assert not log.append(bytes(300))
    log.begin_again(b"snapshot", 300)
    assert log.append(bytes(300))
    assert follow(log, STALE)[:2] == ([b"snapshot", bytes(300)], True)


def test_who_has_nearly_followed_gets_the_rest_without_the_snapshot(log):
    log.append(b"one")
    seen = follow(log, STALE)[2]
    log.append(b"two")
    log.begin_again(b"snapshot", 10)
    log.append(b"three")
    assert follow(log, seen)[:2] == ([b"two", b"three"], False)
    log.begin_again(b"another", 10)
    assert follow(log, seen)[:2] == ([b"another"], True)


def test_who_is_behind_does_not_trust_an_area_that_somebody_has_begun_to_overwrite(log):
    log.append(b"one")
    seen = follow(log, STALE)[2]
    log.append(b"two")
    log.begin_again(b"snapshot", 10)
    log.words[NEXT] += 1  # killed before it has published
    assert follow(log, seen)[:2] == ([b"snapshot"], True)


def test_what_may_have_been_overwritten_while_it_was_copied_is_not_given(log, monkeypatch):
    log.append(b"one")
    copy = Log._copy

    def slowly(self, *arguments):
        data = copy(self, *arguments)
        log.begin_again(b"first", 10)
        log.begin_again(b"second", 10)
        return data

    monkeypatch.setattr(Log, "_copy", slowly)
    assert log.since(STALE) is None
    monkeypatch.undo()
    assert follow(log, STALE)[:2] == ([b"second"], True)


def test_areas_are_used_again(log):
    for turn in range(1000):
        log.begin_again(b"x" * (turn % 100), 100)
    assert log.segment.size < 1 << 17
    assert log.words[END] >> LENGTH_BITS == 1000


def test_large_parts_lie_beside_the_areas_and_beside_each_other(log):
    spans = []
    for size in (5000, 100_000, 64, 1 << 20):
        start = log.place(size)
        spans.append((start, start + size))
        log.begin_again(b"s" * size, 10)
        spans_now = sorted([*spans, *log._areas()])
        assert all(one[1] <= other[0] for one, other in pairwise(spans_now))
    assert log.segment.size >= max(end for _, end in spans)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 500)), max_size=40), st.booleans())
def test_extents_never_overlap_and_find_room_below_the_top(moves, thorough):
    extents = Extents()
    parts: list[tuple[int, int]] = []
    for take, number in moves:
        if take or not parts:
            start = extents.find(number, [(0, 100)], thorough=thorough)
            assert start >= 100
            assert start % 64 == 0
            assert all(start + number <= s or start >= s + n for s, n in parts)
            extents.add(start, number)
            parts.append((start, number))
        else:
            extents.remove(*parts.pop(number % len(parts)))
    assert extents.weight == sum(size for _, size in parts)
    if not parts:
        assert list(extents.gaps([(0, 100)])) == []


def test_a_part_that_is_not_there_cannot_be_removed():
    extents = Extents()
    extents.add(64, 10)
    with pytest.raises(LookupError):
        extents.remove(64, 11)
