"""The caller's context variables are set for each item; what an item sets, no other sees."""

from __future__ import annotations

import contextvars
import decimal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from parmap import Channel, Pool, parallel_imap, parallel_map
from support import variables
from support.gates import kept_pool
from support.scripts import LIMIT, output_of
from support.tasks import START_METHODS, double
from support.variables import read, read_and_write, read_both, request, second

mine: contextvars.ContextVar[object] = contextvars.ContextVar("mine", default=("no", "one"))


@pytest.fixture(scope="module")
def keeper(tmp_path_factory):
    with kept_pool(tmp_path_factory, 2) as keeper:
        yield keeper


@pytest.fixture
def pool(keeper):
    with keeper.lend() as pool:
        yield pool


@contextmanager
def set_to(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@pytest.mark.parametrize("method", START_METHODS)
def test_items_see_what_the_caller_has_set(method):
    with Pool(1, start_method=method) as pool, set_to(request, ["alice", 1]):
        assert parallel_map(read, range(3), pool=pool) == [["alice", 1]] * 3


def test_each_call_has_its_own(pool):
    assert parallel_map(read, [0, 1], pool=pool) == ["nobody"] * 2
    with set_to(request, "alice"):
        assert parallel_map(read, [0, 1], pool=pool) == ["alice"] * 2
        with set_to(request, "bob"), set_to(second, 2):
            assert parallel_map(read_both, [0, 1], pool=pool) == [("bob", 2)] * 2
        assert parallel_map(read_both, [0, 1], pool=pool) == [("alice", "unset")] * 2
    assert parallel_map(read_both, [0, 1], pool=pool) == [("nobody", "unset")] * 2


@pytest.mark.parametrize("size", [1, 500])
def test_what_an_item_sets_the_next_one_does_not_see(pool, size):
    with set_to(request, "alice"):
        for _ in range(2):
            answers = parallel_map(read_and_write, range(2000), pool=pool, chunksize=size)
            assert answers == ["alice"] * 2000


def test_what_an_item_sets_another_call_never_sees(pool):
    """Also where the caller has set nothing; the last item of a chunk sets it for nobody."""
    parallel_map(read_and_write, range(8), pool=pool, chunksize=1)
    assert parallel_map(read, range(8), pool=pool, chunksize=1) == ["nobody"] * 8


def test_it_is_the_context_of_the_call_not_of_what_happens_later(pool):
    with set_to(request, "alice"):
        results = parallel_imap(read, range(3), pool=pool)
        submitted = pool.submit(read)
    assert list(results) == ["alice"] * 3
    assert submitted.result(LIMIT) == "alice"


def test_threads_call_in_contexts_of_their_own(pool):
    answers = {}

    def call(name):
        request.set(name)
        answers[name] = parallel_map(read, [0], pool=pool)

    threads = [threading.Thread(target=call, args=(name,)) for name in ("alice", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert answers == {"alice": ["alice"], "bob": ["bob"]}


def test_a_value_that_cannot_travel_is_left_out(pool):
    with set_to(request, threading.Lock()), set_to(second, 2):
        assert parallel_map(read_both, [0], pool=pool) == [("nobody", 2)]


class Unwilling:
    def __setstate__(self, state):
        raise RuntimeError("not here")

    def __getstate__(self):
        return {"x": 1}


def test_a_value_that_cannot_be_rebuilt_is_left_out(pool):
    with set_to(request, Unwilling()), set_to(second, 2):
        assert parallel_map(read_both, [0], pool=pool) == [("nobody", 2)]


def test_values_by_value_are_of_the_calls_classes(pool):
    class Local:
        pass

    with set_to(request, Local()):
        assert parallel_map(lambda _: type(read()) is Local, [0], pool=pool) == [True]
        [there] = parallel_map(read, [0], pool=pool)
    assert type(there) is Local


def test_a_handle_travels_as_a_value(pool):
    channel: Channel[int] = Channel()
    with set_to(request, channel):
        parallel_map(lambda x: read().send(x), [7], pool=pool)
    assert channel.receive(LIMIT) == 7
    channel.close()


def test_a_variable_that_no_module_has_stays_here(pool):
    hidden = contextvars.ContextVar("hidden", default="default")
    with set_to(hidden, "set"):
        assert parallel_map(lambda _: hidden.get(), [0], pool=pool) == ["default"]


def test_a_variable_comes_back_as_itself(pool):
    assert parallel_map(lambda _: request, [0], pool=pool)[0] is request
    hidden: contextvars.ContextVar[int] = contextvars.ContextVar("hidden")
    assert parallel_map(lambda _: [hidden, hidden], [0], pool=pool) == [[hidden, hidden]]
    made = parallel_map(lambda _: contextvars.ContextVar("made", default=5), [0], pool=pool)[0]
    assert (made.name, made.get()) == ("made", 5)


def test_what_an_initializer_sets_stays(tmp_path):
    with Pool(1, initializer=request.set, initargs=("worker's",)) as pool:
        assert parallel_map(read, [0, 1], pool=pool) == ["worker's"] * 2
        with set_to(request, "caller's"):
            assert parallel_map(read, [0, 1], pool=pool) == ["caller's"] * 2


def test_the_decimal_context_that_c_code_keeps_does_no_harm(pool):
    with decimal.localcontext() as context:
        context.prec = 5
        assert parallel_map(double, range(3), pool=pool) == [0, 2, 4]


def test_a_retried_item_sees_them_again(pool):
    def task(x):
        read_and_write(x)
        raise ValueError(read())

    with set_to(request, "alice"), pytest.raises(ValueError, match="written by 0"):
        parallel_map(task, [0], retry=2, pool=pool)


def test_inline_items_see_them_and_change_nothing():
    with set_to(request, "alice"):
        results = parallel_imap(read_and_write, range(3), max_workers=0)
    assert list(results) == ["alice"] * 3
    assert read() == "nobody"


@pytest.mark.parametrize("engine", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_on_another_engine(engine):
    with engine(2) as executor:
        assert parallel_map(read, range(50), pool=executor) == ["nobody"] * 50
        with set_to(request, "alice"):
            assert parallel_map(read_and_write, range(50), pool=executor) == ["alice"] * 50
        assert parallel_map(read, range(50), pool=executor) == ["nobody"] * 50


def test_a_worker_does_not_keep_what_was_set_when_it_was_forked():
    with Pool(1, start_method="fork") as pool:
        with set_to(request, "alice"):
            assert parallel_map(read, [0], pool=pool) == ["alice"]
        assert parallel_map(read, [0], pool=pool) == ["nobody"]


def test_a_module_that_has_taken_the_variables_name_for_something_else(pool, monkeypatch):
    """It was found there once; then there is none to set."""
    with set_to(second, 2):
        assert parallel_map(read_both, [0], pool=pool) == [("nobody", 2)]
        monkeypatch.setattr(variables, "second", "something else")
        assert parallel_map(read, [0], pool=pool) == ["nobody"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_variable_of_a_script(workers, tmp_path):
    source = f"""
        from contextvars import ContextVar
        from parmap import Pool, parallel_map

        var = ContextVar("var", default="default")
        def read(_):
            return var.get()
        def change(_):
            try:
                return var.get()
            finally:
                var.set("changed")

        print(parallel_map(lambda _: var.get(), range(2), max_workers={workers}))
        var.set("mine")
        print(parallel_map(lambda _: var.get(), range(2), max_workers={workers}))
        print(parallel_map(read, range(2), max_workers={workers}))
        print(set(parallel_map(change, range(100), max_workers={workers})))
        print(Pool(1).submit(read, 0).result())
        print(var.get())
    """
    assert output_of(source, tmp_path, PYTHONWARNINGS="ignore") == (
        "['default', 'default']\n['mine', 'mine']\n['mine', 'mine']\n{'mine'}\nmine\nmine\n"
    )


def test_a_variable_of_this_module_by_value(pool):
    """The module itself is no other's to import (pytest has put it there): by name or by value."""
    with set_to(mine, "mine"):
        assert parallel_map(lambda _: mine.get(), [0], pool=pool) == ["mine"]
    assert parallel_map(lambda _: mine.get(), [0], pool=pool) == [("no", "one")]
