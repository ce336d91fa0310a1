"""Whatever the order of arrival, the results come in the order of the items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parmap._core.ordering import ReorderBuffer


@st.composite
def arrivals(draw) -> list[tuple[int, list[int]]]:
    """The numbers from 0 on, cut into runs, shuffled."""
    runs, first = [], 0
    for size in draw(st.lists(st.integers(1, 5), max_size=20)):
        runs.append((first, list(range(first, first + size))))
        first += size
    return draw(st.permutations(runs))


@given(arrivals())
def test_any_order_of_arrival_gives_the_order_of_the_items(runs):
    """All of them, and nothing twice."""
    buffer = ReorderBuffer[int]()
    for first, values in runs:
        buffer.put(first, values)

    assert list(buffer.ready()) == list(range(sum(len(values) for _, values in runs)))


@given(arrivals(), st.data())
def test_each_result_is_ready_as_soon_as_all_before_it_are_there(runs, data):
    """And it is held until the consumer, who comes at any time, has taken it."""
    buffer = ReorderBuffer[int]()
    arrived: set[int] = set()
    taken: list[int] = []
    for first, values in runs:
        buffer.put(first, values)
        arrived |= set(values)
        in_line = next(i for i in range(len(arrived) + 1) if i not in arrived)
        assert list(buffer.ready()) == list(range(len(taken), in_line))
        assert len(buffer) == len(arrived) - len(taken)
        count = data.draw(st.integers(0, len(buffer.ready())))
        taken += [buffer.ready().popleft() for _ in range(count)]

    assert taken + list(buffer.ready()) == list(range(len(arrived)))
