"""The items of a stream are there until they are released, and no longer."""

from __future__ import annotations

import weakref
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from parmap._calls.kept import PAGE, Kept

BATCHES = st.lists(
    st.integers(0, 40) | st.integers(PAGE - 3, PAGE + 3) | st.just(3 * PAGE), max_size=5
)


def filled(batches) -> Kept:
    kept, start = Kept(), 0
    for size in batches:
        kept.add(range(start, start + size))
        start += size
    return kept


@given(BATCHES, st.data())
def test_any_stretch_can_be_read_wherever_pages_end(batches, data):
    kept, total = filled(batches), sum(batches)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))

    assert kept.get(start, stop) == list(range(start, stop))


@given(BATCHES, BATCHES)
def test_skipped_ones_take_indexes_and_no_room(skipped, batches):
    kept, total = Kept(), 0
    for left_out, size in zip(skipped, batches, strict=False):
        kept.skip(left_out)
        kept.add(range(size))
        total += left_out + size

        assert kept.added == total
        assert kept.get(total - size, total) == list(range(size))
        kept.release(total - size, size)

    assert len(kept._pages) <= 1


@given(BATCHES, st.data())
def test_what_is_released_in_any_order_leaves_the_rest_alone_and_no_page_behind(batches, data):
    kept, total = filled(batches), sum(batches)
    cuts = sorted({0, total, *data.draw(st.lists(st.integers(0, total), max_size=6))})
    parts = data.draw(st.permutations(list(pairwise(cuts))))
    left = dict(enumerate(parts))
    for number, (start, stop) in enumerate(parts):
        kept.release(start, stop - start)
        del left[number]
        for first, last in left.values():
            assert kept.get(first, last) == list(range(first, last))

    assert len(kept._pages) <= 1  # the one that is still being filled


class Thing:
    pass


def test_a_released_item_is_let_go_at_once():
    """Not only when its whole page is: it may be large."""
    kept, things = Kept(), [Thing(), Thing()]
    kept.add(things)
    gone = weakref.ref(things[0])
    things.clear()
    kept.release(0, 1)

    assert gone() is None
    assert type(kept.get(1, 2)[0]) is Thing
