"""What users of dict and list expect, and what differs: values are copies, doors are strict."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping, MutableSequence
from enum import Enum
from functools import partial

import pytest

from parmap import Channel, Pool, SharedDict, SharedList, parallel_map
from parmap.errors import SerializationError
from parmap.shared._pairs import Pairs
from support.channel_peers import Running, child
from support.container_tools import second
from support.gates import PATIENCE
from support.scripts import output_of


def test_they_are_what_their_protocols_say():
    assert issubclass(SharedDict, MutableMapping)
    assert issubclass(SharedList, MutableSequence)
    assert SharedDict[str, int]() == {}
    assert SharedList[int]() == []


@pytest.mark.parametrize(
    "arguments", [(), ({"a": 1},), ([("a", 1), ("b", [2])],), (SharedDict(x=1),)]
)
def test_a_shared_dict_is_made_as_a_dict(arguments):
    assert SharedDict(*arguments, z=3) == dict(*arguments, z=3)
    assert SharedDict.fromkeys("ab", 1) == dict.fromkeys("ab", 1)
    assert SharedDict.fromkeys("ab") == dict.fromkeys("ab")


def test_reading_a_mutable_value_gives_a_fresh_copy():
    d, seq = SharedDict(a=[1], big=[b"x" * 100_000]), SharedList([[1], {"k": {2}}])
    for value in (d["a"], d.get("a"), next(iter(d.values())), dict(d.items())["a"], d["big"],
                  d.setdefault("a", []), seq[0], seq[0:1], next(iter(seq))):  # fmt: skip
        value.append(5)
    seq[1]["k"].add(7)
    assert d == {"a": [1], "big": [b"x" * 100_000]}
    assert seq == [[1], {"k": {2}}]
    value = [1]
    d["mine"] = value
    value.append(2)
    assert d["mine"] == [1]


def test_update_item_gives_what_it_has_stored():
    d = SharedDict(n=1, seen=[1])
    assert d.update_item("n", lambda n: n + 1) == 2
    assert d.update_item("m", lambda n: n + 1, 10) == 11
    assert d.update_item("seen", lambda seen: [*seen, 2]) == [1, 2]
    with pytest.raises(KeyError, match="none"):
        d.update_item("none", lambda n: n)
    with pytest.raises(ZeroDivisionError):
        d.update_item("n", lambda n: n / 0)
    assert d == {"n": 2, "m": 11, "seen": [1, 2]}
    seq = SharedList([5])
    assert seq.update_item(-1, lambda n: n + 1) == 6
    assert seq.update_item(1, lambda n: n + 1, 0) == 1
    with pytest.raises(IndexError):
        seq.update_item(7, lambda n: n, 0)
    assert seq == [6, 1]


def test_a_default_is_not_changed_by_the_function():
    nothing: list[int] = []
    d: SharedDict[str, list[int]] = SharedDict()

    def grow(seen):
        seen.append(1)
        return seen

    assert [d.update_item(key, grow, nothing) for key in "ab"] == [[1], [1]]
    assert nothing == []


def test_a_function_that_changes_in_place_and_returns_none_is_told_so():
    d = SharedDict(seen=[1], flag=[2])
    with pytest.raises(TypeError, match="must return the new value"):
        d.update_item("seen", lambda seen: seen.append(2))
    assert d["seen"] == [1]
    assert d.update_item("flag", lambda _: None) is None


def test_the_function_reads_the_container_and_cannot_change_it():
    d = SharedDict(a=1, b=2, big=b"x" * 100_000, c=Channel())
    assert (
        d.update_item("a", lambda a: a + d["b"] + len(d["big"]) + len(list(d.items()))) == 100_007
    )
    for change in (partial(d.__setitem__, "a", 5), partial(d.pop, "b"), d.clear,
                   lambda: d.update_item("b", lambda b: b)):  # fmt: skip
        with pytest.raises(RuntimeError, match="cannot change the container"):
            d.update_item("a", lambda a, change=change: change())
    seq = SharedList([2, 1])
    with pytest.raises(RuntimeError, match="cannot change the container"):
        seq.sort(key=lambda x: seq.append(x))
    d["a"], seq[0] = 0, 0
    assert (d["a"], seq) == (0, [0, 1])


def test_a_fork_inside_the_function_changes_nothing_in_the_child():
    d = SharedDict(a=1)

    def body(me):
        with pytest.raises(RuntimeError, match="belongs to its parent"):
            d.update_item("a", fork_first)
        me.say(d.copy())

    def fork_first(a):
        import os

        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            os._exit(0)
        return a + 1

    with child(body) as process:
        assert process.hear() == {"a": 1}
    assert d.update_item("a", lambda a: a) == 1


@pytest.mark.parametrize("bad", [[], {}, {1}, ([],)])
def test_unhashable_keys_are_refused_at_the_door(bad):
    d = SharedDict(a=1)
    for use in (d.__getitem__, d.get, d.__delitem__, d.pop, d.__contains__, d.setdefault,
                partial(d.update_item, fn=abs), lambda key: d.__setitem__(key, 1)):  # fmt: skip
        with pytest.raises(TypeError, match="unhashable"):
            use(bad)
    assert d == {"a": 1}


def test_what_cannot_be_pickled_is_refused_at_the_door():
    d, seq, lock = SharedDict(a=1), SharedList([1]), threading.Lock()
    for act in (lambda: d.__setitem__("b", lock), lambda: d.update(x=1, y=[lock]),
                lambda: d.setdefault("c", lock), lambda: d.update_item("a", lambda _: lock),
                lambda: d.__setitem__(partial(print, lock), 1), lambda: seq.append(lock),
                lambda: seq.extend([2, lock]), lambda: seq.__setitem__(0, lock),
                lambda: seq.update_item(0, lambda _: lock)):  # fmt: skip
        with pytest.raises(SerializationError, match="lock"):
            act()
    assert (d, seq) == ({"a": 1}, [1])


def test_keys_that_nobody_could_find_again_are_refused_at_the_door():
    with pytest.raises(TypeError, match="not equal to its own copy"):
        SharedDict()[Plain()] = 1
    with pytest.raises(TypeError, match="without handles"):
        SharedDict()[HoldsHandle(SharedList())] = 1


class Plain:
    pass


class HoldsHandle(tuple):
    __slots__ = ()

    def __new__(cls, *parts):
        return super().__new__(cls, parts)

    def __hash__(self):
        return 1

    def __getnewargs__(self):
        return tuple(self)


class Colour(Enum):
    RED = 1


def test_odd_keys_are_found_in_every_copy(monkeypatch):
    d = SharedDict({Colour.RED: 1, frozenset({(1, "x")}): 2, "plain": 3})
    twin = second(d)
    assert twin[Colour.RED] == 1
    twin[Colour.RED] += 1
    d[Colour.RED] += 1
    assert list(d.items()) == [(Colour.RED, 3), (frozenset({(1, "x")}), 2), ("plain", 3)]
    assert next(iter(twin)) is Colour.RED
    assert twin.pop(Colour.RED) == 3
    assert Colour.RED not in d


class Picky:
    """Equal to all of its kind; can be rebuilt only while `welcome`."""

    welcome = True

    def __eq__(self, other):
        return isinstance(other, Picky)

    def __hash__(self):
        return 1

    def __reduce__(self):
        return rebuild_picky, ()


def rebuild_picky():
    if not Picky.welcome:
        raise ImportError("no such thing here")
    return Picky()


def test_a_key_that_cannot_be_rebuilt_is_the_only_one_out_of_reach(monkeypatch):
    d = SharedDict({"a": 1, Picky(): 2, "b": 3})
    twin = second(d)
    monkeypatch.setattr(Picky, "welcome", False)
    assert (twin["a"], twin["b"], len(twin), sorted(twin.values())) == (1, 3, 3, [1, 2, 3])
    with pytest.raises(SerializationError, match="cannot be rebuilt here: no such thing"):
        list(twin)
    twin["c"] = 4
    monkeypatch.undo()
    assert d == {"a": 1, Picky(): 2, "b": 3, "c": 4}


def test_an_iteration_sees_what_was_there_when_it_began():
    d, seq = SharedDict(a=[1], b=[b"x" * 50_000]), SharedList([1, [2], b"y" * 50_000])
    keys, values, items, one_by_one = iter(d), iter(d.values()), iter(d.items()), iter(seq)
    d.clear()
    d["c"] = b"z" * 50_000
    seq[:] = [b"z" * 50_000]
    assert list(keys) == ["a", "b"]
    assert list(values) == [[1], [b"x" * 50_000]]
    assert list(items) == [("a", [1]), ("b", [b"x" * 50_000])]
    assert list(one_by_one) == [1, [2], b"y" * 50_000]


def test_threads_lose_nothing():
    d, seq = SharedDict(), SharedList()

    def work(number):
        for turn in range(300):
            d.update_item("n", lambda n: n + 1, 0)
            d[number] = turn
            seq.append((number, turn))
            assert d[number] == turn
            assert len(seq) > turn

    threads = [Running(work, number) for number in range(4)]
    for thread in threads:
        thread.result()
    assert d == {"n": 1200, **dict.fromkeys(range(4), 299)}
    for number in range(4):
        assert [turn for who, turn in seq if who == number] == list(range(300))


def test_memory_of_dropped_values_is_used_again():
    """Half a gigabyte in and out, a few at a time, and then one that is very large."""
    d = SharedDict()
    for turn in range(2_000):
        d[turn % 3] = bytes(1 << (17 + turn % 4))
        if turn % 100 == 0:
            assert len(d[turn % 3]) == 1 << (17 + turn % 4)
    log = d._replica.log
    assert log.segment.refresh() < 32 << 20
    d["large"] = bytes(100 << 20)
    d.clear()
    d[0] = bytes(40_000)
    import os

    assert os.fstat(log.segment.fileno()).st_blocks * 512 < 32 << 20


def test_a_large_value_that_is_dropped_while_it_is_copied_is_never_seen_torn(monkeypatch):
    """Another process drops it, and writes a new one to its place, in the middle of the copy."""
    d = SharedDict(big=b"a" * 50_000)
    twin, copy, turns = second(d), Pairs._copy, iter("bc")

    def slowly(self, form):
        first = copy(self, form)[:25_000]
        for letter in turns:
            d["big"] = letter.encode() * 50_000
        return first + copy(self, form)[25_000:]

    monkeypatch.setattr(Pairs, "_copy", slowly)
    assert twin["big"] == b"c" * 50_000


def test_arrays_come_back_private_and_writable():
    numpy = pytest.importorskip("numpy")
    d = SharedDict(a=numpy.arange(50_000))
    one, other = d["a"], d["a"]
    one[0] = 7
    assert other[0] == 0
    assert d["a"][0] == 0
    assert d.update_item("a", lambda a: a * 2)[2] == 4


def test_a_dict_grows_without_a_limit():
    d, seq = SharedDict(), SharedList(range(100_000))
    for number in range(50_000):
        d[number] = str(number)
    assert second(d) == {number: str(number) for number in range(50_000)}
    assert second(seq) == list(range(100_000))


def test_functions_and_classes_of_main_are_keys_and_values(tmp_path):
    script = """
        from dataclasses import dataclass
        from parmap import SharedDict, SharedList, parallel_map
        @dataclass(frozen=True)
        class Point:
            x: int
        def norm(p): return p.x
        d = SharedDict({Point(1): Point(2), "f": lambda x: x + 1, "norm": norm, "class": Point})
        def work(n):
            assert d[Point(1)].x >= 2, d
            d.update_item(Point(1), lambda p: Point(p.x + 1))
            return d["f"](n), d["norm"](Point(n)), d["class"](n)
        print(parallel_map(work, range(3), max_workers=2))
        print(d[Point(1)], type(d[Point(1)]) is Point, list(d)[0] == Point(1))
    """
    assert output_of(script, tmp_path) == (
        "[(1, 0, Point(x=0)), (2, 1, Point(x=1)), (3, 2, Point(x=2))]\nPoint(x=5) True True\n"
    )


def test_a_closure_of_a_map_takes_a_container_along():
    d = SharedDict()
    with Pool(2) as pool:
        parallel_map(lambda n: d.update_item(n % 3, lambda k: k + n, 0), range(30), pool=pool)
        assert pool.submit(len, d).result(PATIENCE) == 3
    assert d.copy() == {k: sum(range(k, 30, 3)) for k in sorted(d)} | {}
    assert sum(d.values()) == sum(range(30))


def test_comparisons_and_text():
    d, seq = SharedDict(a=1), SharedList([1, 2])
    assert repr(d) == "SharedDict({'a': 1})"
    assert repr(seq) == "SharedList([1, 2])"
    assert (d == {"a": 1}, d == SharedDict(a=1), d != {"a": 2}, d == 5) == (True, True, True, False)
    assert (seq == [1, 2], seq == (1, 2), seq < [1, 3], seq > [0], seq >= SharedList([1, 2])) == (
        True, False, True, True, True,
    )  # fmt: skip
    for container in (d, seq):
        with pytest.raises(TypeError, match="unhashable"):
            hash(container)


def test_update_item_wants_a_function():
    for shared, place in (SharedDict(a=1), "a"), (SharedList([1]), 0):
        with pytest.raises(TypeError, match="fn must be a function of the value, not int"):
            shared.update_item(place, 5)


def test_each_view_of_a_dict_can_be_reversed():
    plain = {"a": 1, 2: [3]}
    shared = SharedDict(plain)
    for view in ("keys", "values", "items"):
        assert list(reversed(getattr(shared, view)())) == list(reversed(getattr(plain, view)()))
    assert shared.keys() & {2} == {2}
