"""What an item is known by: each rule of the contract, and that it is the same in every run."""

from __future__ import annotations

import functools
import multiprocessing
import operator
import random
import textwrap
from pickle import PickleBuffer

import pytest

from parmap import parallel_map, parallel_starmap
from parmap._checkpoint.digest import digest
from parmap._checkpoint.store import Store
from support.checkpoints import rows, value_of
from support.scripts import output_of
from support.tasks import add, double, identity


class Scaled:
    """An object that is called."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return -self.factor * x


def run(fn, items, file, **options):
    return parallel_map(fn, items, max_workers=0, checkpoint=file, **options)


def test_equal_items_are_as_many_items(recorded, file):
    """The occurrence counts: a random simulation is to be run as often as it stands there."""
    run(recorded.run, [7, 7], file)
    assert recorded.ran() == [7, 7]

    run(recorded.run, [7, 1, 7, 7, 7], file)
    assert recorded.ran() == [1, 7, 7]


def test_the_order_of_items_is_free(recorded, file):
    run(recorded.run, [1, 2, 3], file)
    recorded.ran()

    assert run(recorded.run, [3, 2, 1], file) == [value_of(3), value_of(2), value_of(1)]
    assert recorded.ran() == []


def test_two_functions_share_a_file_and_no_results(file):
    assert run(double, [3], file) == [6]
    assert run(identity, [3], file) == [3]
    assert len(rows(file)) == 2
    assert (run(double, [3], file), run(identity, [3], file)) == ([6], [3])


def test_arguments_are_known_as_they_stand_among_the_arguments(file):
    """`f((1, 2))` is not `f(1, 2)`."""
    assert run(identity, [(1, 2)], file) == [(1, 2)]
    assert parallel_starmap(identity, [(1,)], max_workers=0, checkpoint=file) == [1]
    assert len(rows(file)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (functools.partial(add, 1), functools.partial(add, 2)),
        (functools.partial(add, y=1), functools.partial(add, y=2)),
        (Scaled(2), Scaled(3)),
        (Scaled(2).method, Scaled(3).method),
        (functools.partial(Scaled(2).method), functools.partial(Scaled(3).method)),
        (operator.mul, None),
        ((5).__add__, (6).__add__),
        ("a".__mul__, "b".__mul__),
    ],
)
def test_what_is_bound_to_the_function_counts_as_an_argument(one, other, file):
    """A result that is not that of the loop would be the worst that can happen."""
    if other is None:
        one, other = functools.partial(one, 2), functools.partial(one, 3)
    for _ in range(2):
        for fn in (one, other):
            assert run(fn, [1, 2], file) == [fn(1), fn(2)]
    assert len(rows(file)) == 4


class Thing:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __eq__(self, other):
        return vars(self) == vars(other)

    __hash__ = None


STABLE = """
    import sys
    from collections import OrderedDict
    from dataclasses import dataclass
    from enum import Enum
    from parmap._checkpoint.digest import digest

    class Colour(Enum):
        RED = 1

    @dataclass
    class Thing:
        name: str
        tags: frozenset

    def local():
        @dataclass
        class Inner:
            tags: set
        limit = {"a", "b", "c"}
        def recurse(n, tags=frozenset(["x", "y", "z"])):
            return recurse(n - 1) if n in {"u", "v", "w"} else limit
        return [Inner({"p", "q", "r"}), recurse, lambda x: x in {"one", "two", "three"}]

    words = {"alpha", "beta", "gamma", "delta"}
    values = [
        1, "text", b"bytes", 1.5, None, (1, [2, {"k": "v"}]), words, frozenset(words), [words, words],
        {"tags": words}, {("a", frozenset(words))}, Thing("n", frozenset(words)), Colour.RED, Thing,
        OrderedDict(a=words), *local(), local, len, range(3),
    ]
    print(*[digest(value).hex() for value in values])
"""


def test_a_digest_is_the_same_in_every_run(folder):
    """Whatever the seed of its hashes is: sets of texts come in another order each time."""
    runs = {output_of(STABLE, folder, PYTHONHASHSEED=str(seed)) for seed in range(3)}

    assert len(runs) == 1
    digests = runs.pop().split()
    assert len(set(digests)) == len(digests)


def test_other_objects_have_other_digests():
    def closure(limit):
        return lambda x: x < limit

    def local(attribute):
        class Local:
            value = attribute

        return Local()

    groups = [
        [{1, 2}, frozenset({1, 2}), [1, 2], (1, 2), {1, 2, 3}],
        [closure(1), closure(2), lambda x: x, lambda x: x + 1, lambda x, y=1: x],
        [local(1), local(2)],
        [b"ab", "ab", bytearray(b"ab")],
        [[PickleBuffer(b"ab"), PickleBuffer(b"c")], [PickleBuffer(b"a"), PickleBuffer(b"bc")]],
        [Thing(a=1), Thing(a=2), Thing],
    ]
    for group in groups:
        assert len(set(map(digest, group))) == len(group)


def test_arrays_are_known_by_their_contents_and_shape():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(6.0)
    others = [array + 1, array.reshape(2, 3), array.astype("f4"), array[:5], [array, array[:5]]]

    assert digest(array.copy()) == digest(array)
    assert len({digest(each) for each in [array, *others]}) == 6


def test_the_seed_is_part_of_what_results_are_filed_under_and_then_the_index_too(file):
    """With a seed an item's randomness depends on its index."""

    def keys(seed, items):
        store = Store(file, double, seed)
        try:
            found = [store.key_of((x,), index) for index, x in enumerate(items)]
            hits = [store.find(key) for key in found]
            store.keep(zip(found, items, strict=True))
            return hits
        finally:
            store.close()

    assert keys(None, [1, 2, 2]) == [None, None, None]
    assert keys(None, [2, 1]) == [(2,), (1,)]
    assert keys(5, [1, 2, 2]) == [None, None, None]
    assert keys(5, [1, 2, 2]) == [(1,), (2,), (2,)]
    assert keys(5, [2, 1, 2]) == [None, None, (2,)]
    assert keys(6, [1]) == [None]


# ---------------------------------------------------------------------- what cannot be stored


def test_an_item_that_cannot_be_pickled_is_computed_each_time(file):
    """Inline and in threads such items work; that they are not stored is said once."""
    items = [iter("ab"), iter("cd"), "ef"]
    with pytest.warns(
        UserWarning, match=r"arguments cannot be pickled.*computed each time"
    ) as told:
        assert run(type, [(x for x in "a"), (x for x in "b"), 3], file)[2] is int
    assert len(told) == 1
    assert told[0].filename == __file__
    assert run(list, items, file) == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_a_result_that_only_travels_by_value_is_computed_each_time(file):
    """Read again, its class would be another one: what the loop gives is the same class."""

    class Local:
        pass

    def make(x):
        return Local() if x else None

    for _ in range(2):
        with pytest.warns(UserWarning, match="cannot be stored and will be computed again"):
            results = run(make, [0, 1, 2], file)
        assert [type(each) for each in results] == [type(None), Local, Local]
    assert len(rows(file)) == 1


class Grown:
    """A class whose stored objects can no longer be read."""

    def __setstate__(self, state):
        raise ValueError("of another version")

    def __getstate__(self):
        return 1


def make_grown(x):
    return Grown()


def test_a_stored_result_that_cannot_be_read_is_computed_again(file):
    run(make_grown, [1, 2], file)

    with pytest.warns(UserWarning, match="of another version") as told:
        assert [type(each) for each in run(make_grown, [1, 2], file)] == [Grown, Grown]
    assert len(told) == 1


def test_classes_of_the_script_come_back_as_themselves(folder):
    script = textwrap.dedent(
        """
        from dataclasses import dataclass
        from parmap import parallel_map

        @dataclass
        class Point:
            x: int

        def move(point):
            print("ran", flush=True)
            return Point(point.x + 1)

        results = parallel_map(move, [Point(1), Point(2)], checkpoint="points", max_workers=1)
        assert [type(each) for each in results] == [Point, Point]
        print(results)
        """
    )
    assert output_of(script, folder) == "ran\nran\n[Point(x=2), Point(x=3)]\n"
    assert output_of(script, folder) == "[Point(x=2), Point(x=3)]\n"


def draw(x):
    return x, random.random()


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"max_workers": 2}])
def test_seeded_results_are_those_of_one_whole_run(options, file):
    """What is computed later is at the index that it has in the input."""
    items = [1, 2, 2, 3, 1]
    whole = parallel_map(draw, items, seed=7, **options)
    parallel_map(draw, items[:3], seed=7, checkpoint=file, **options)

    assert parallel_map(draw, items, seed=7, checkpoint=file, **options) == whole
    assert parallel_map(draw, items, seed=7, checkpoint=file, **options) == whole
    assert parallel_map(draw, items, seed=8, checkpoint=file, **options) != whole


def test_a_managers_proxy_is_stored_without_the_key_of_its_manager(file):
    """The file may be read by more people than the manager's socket; the proxy works all the same."""
    with multiprocessing.get_context("spawn").Manager() as manager:
        shared = manager.dict(a=1)
        for _ in range(2):
            (proxy,) = parallel_map(identity, [shared], checkpoint=file, max_workers=1)
            assert proxy.copy() == {"a": 1}
            stored = b"".join(each.read_bytes() for each in file.parent.iterdir() if each.is_file())
            assert b"DictProxy" in stored
            assert bytes(multiprocessing.current_process().authkey) not in stored


def test_a_connection_is_no_result_to_store(file):
    """Its number is another file's in the next run, which would be read, and closed, instead of it."""
    here, there = multiprocessing.Pipe()
    with here, there:
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"cannot be stored.*open in this run only"):
                (arrived,) = parallel_map(identity, [there], checkpoint=file, max_workers=1)
            with arrived:
                arrived.send("hello")
                assert here.recv() == "hello"
