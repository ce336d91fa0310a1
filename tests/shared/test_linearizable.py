"""The checker itself: it finds the order that is there, and none where there is none."""

from __future__ import annotations

import itertools
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.linearizable import Call, Recorder, explain, recorded


def register(state, asked):
    match asked:
        case ("get",):
            return state, state
        case ("set", new):
            return None, new
        case ("fetch_add", n):
            return state, state + n
    raise AssertionError(asked)


def test_calls_one_after_another_are_explained_by_their_order():
    history = [Call("a", 0, 1, ("set", 7), None), Call("b", 2, 3, ("get",), 7)]

    assert explain(history, 0, register) == history


def test_a_stale_read_after_a_write_is_not_explained():
    history = [Call("a", 0, 1, ("set", 7), None), Call("b", 2, 3, ("get",), 0)]

    assert explain(history, 0, register) is None


def test_a_read_during_a_write_may_see_either():
    for seen in (0, 7):
        history = [Call("a", 0, 5, ("set", 7), None), Call("b", 2, 3, ("get",), seen)]
        assert explain(history, 0, register) is not None


def test_two_reads_during_a_write_may_not_go_back():
    history = [
        Call("a", 0, 9, ("set", 7), None), Call("b", 1, 2, ("get",), 7), Call("b", 3, 4, ("get",), 0)
    ]  # fmt: skip

    assert explain(history, 0, register) is None


def test_a_lost_update_is_not_explained():
    history = [Call("a", 0, 5, ("fetch_add", 1), 0), Call("b", 1, 6, ("fetch_add", 1), 0)]

    assert explain(history, 0, register) is None


@pytest.mark.parametrize("seen", [0, 1])
def test_a_call_that_never_returned_has_happened_or_has_not(seen):
    history = [Call("a", 0, inf, ("fetch_add", 1), None), Call("b", 5, 6, ("get",), seen)]

    assert explain(history, 0, register) is not None


def test_a_call_that_never_returned_happens_once_only():
    history = [
        Call("a", 0, inf, ("fetch_add", 1), None),
        Call("b", 5, 6, ("get",), 1), Call("b", 7, 8, ("get",), 2),
    ]  # fmt: skip

    assert explain(history, 0, register) is None


calls = st.lists(
    st.builds(
        lambda who, began, length, asked, result: Call(who, began, began + length, asked, result),
        st.just(0), st.integers(0, 12), st.integers(1, 8),
        st.sampled_from([("get",), ("set", 1), ("fetch_add", 1)]), st.sampled_from([None, 0, 1, 2]),
    ),
    max_size=5,
)  # fmt: skip


@given(calls)
def test_it_agrees_with_trying_all_orders(history):
    assert (explain(history, 0, register) is not None) == by_brute_force(history)


def by_brute_force(history):
    return any(fits(order) for order in itertools.permutations(history))


def fits(order):
    state = 0
    for number, call in enumerate(order):
        if any(later.ended < call.began for later in order[number + 1 :]):
            return False
        result, state = register(state, call.asked)
        if result != call.result:
            return False
    return True


def test_a_long_history_is_checked_in_reasonable_time():
    """Four threads that overlap all the time, 2,000 calls: the search remembers where it was."""
    history = [Call(n % 4, n, n + 3.5, ("fetch_add", 1), n) for n in range(2000)]

    assert explain(history, 0, register) is not None


def test_what_was_recorded_comes_back(tmp_path):
    recorder = Recorder(tmp_path, "me")
    recorder.call(max, 1, 2)
    with pytest.raises(ZeroDivisionError):
        recorder.call(lambda: 1 / 0, asked=("divide",))
    recorder.close()
    done, cut = recorded(tmp_path)

    assert (done.who, done.asked, done.result) == ("me", ("max", 1, 2), 2)
    assert done.began <= done.ended < cut.began
    assert (cut.asked, cut.ended) == (("divide",), inf)
