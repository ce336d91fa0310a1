"""SharedArray: an array and a buffer over memory that every process sees."""

from __future__ import annotations

import array
import gc
import sys
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parmap import Lock, SharedArray, parallel_map, run_workers
from support.channel_peers import child, collect

np = pytest.importorskip("numpy")

CODES = "bBhHiIlLqQfd"
SIZES = [0, 1, 5, 20_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("code", CODES)
def test_it_holds_what_an_array_holds(code, size):
    model = array.array(code, [n % 100 for n in range(size)])
    shared = SharedArray(code, model)
    assert (len(shared), shared.typecode, shared.shape) == (size, code, (size,))
    assert shared[:] == list(shared) == model.tolist()
    assert bytes(memoryview(shared)) == model.tobytes()
    assert SharedArray(code, size)[:] == [0] * size


@pytest.mark.parametrize(
    ("arguments", "code", "elements"),
    [
        (("d", (1, 2)), "d", [1.0, 2.0]), (("q", range(3)), "q", [0, 1, 2]),
        ((bool, 2), "?", [False] * 2),
        ((int, [1]), "q", [1]), ((float, 1), "d", [0.0]), (([1, 2],), "q", [1, 2]),
        (([1, 2.5],), "d", [1.0, 2.5]), (([True],), "?", [True]), ((b"abc",), "c", b"abc"),
        (("c", b"abc"), "c", b"abc"), (("c", [b"a", b"b"]), "c", b"ab"),
        ((array.array("h", [1]),), "q", [1]),
        ((np.float32, 2), "f", [0.0, 0.0]), (("float64", [1]), "d", [1.0]),
        ((np.dtype("?"), 1), "?", [False]),
        ((np.arange(3, dtype="i4"),), "i", [0, 1, 2]), (("d", np.arange(2)), "d", [0.0, 1.0]),
    ],
)  # fmt: skip
def test_type_and_data_are_given_in_many_ways(arguments, code, elements):
    shared = SharedArray(*arguments)
    assert (shared.typecode, shared[:]) == (code, elements)
    assert parallel_map(lambda a: a[:], [shared], max_workers=1) == [elements]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((), TypeError, "typecode and a length"), (("d",), TypeError, "nothing of a length"),
        (("d", -1), ValueError, "negative"), (("d", 1.5), TypeError, "integer, not 1.5"),
        (("zz", 3), TypeError, "'zz'"), (("u", 3), TypeError, "text"),
        ((object, 3), TypeError, "SharedList"),
        (("d", ["x"]), TypeError, "elements of a SharedArray of 'd'"),
        (("b", [300]), OverflowError, "'b'"),
        (([1, "x"],), TypeError, "not clear"), (([],), TypeError, "not clear"),
        (("i", np.array([1.5])), TypeError, "same_kind"),
        (("?", ["x"]), TypeError, "True or False"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_with_the_cure(arguments, error, words):
    with pytest.raises(error, match=words):
        SharedArray(*arguments)


def test_a_shape_and_data_must_fit():
    assert SharedArray("i", range(6), shape=(2, 3))[1][:] == [3, 4, 5]
    assert SharedArray("i", shape=4)[:] == [0] * 4
    with pytest.raises(ValueError, match="do not fill"):
        SharedArray("i", range(5), shape=(2, 3))
    with pytest.raises(TypeError, match="give one of them"):
        SharedArray("i", 5, shape=5)


@pytest.mark.parametrize(
    ("code", "key", "wrong", "error"),
    [
        ("d", 0, "x", TypeError), ("i", 0, 1.5, TypeError), ("b", 0, 300, OverflowError),
        ("?", 0, "x", TypeError), ("c", 0, b"xy", TypeError), ("d", 9, 1.0, IndexError),
        ("d", "x", 1.0, TypeError), ("d", slice(0, 2), [1.0], ValueError),
        ("d", slice(0, 2), 0, TypeError),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_changes(code, key, wrong, error):
    shared = SharedArray(code, 3)
    before = shared[:]
    with pytest.raises(error):
        shared[key] = wrong
    assert shared[:] == before


class Machine(RuleBasedStateMachine):
    """Beside a list: elements, slices of any step, from here and through a view of NumPy."""

    @initialize(data=st.lists(st.integers(-128, 127), max_size=8))
    def begin(self, data):
        self.shared, self.model = SharedArray("b", data), list(data)
        self.view = np.asarray(self.shared)

    @rule(place=st.integers(-10, 10), x=st.integers(-128, 127), through_numpy=st.booleans())
    def set_one(self, place, x, through_numpy):
        if -len(self.model) <= place < len(self.model):
            (self.view if through_numpy else self.shared)[place] = x
            self.model[place] = x
        else:
            with pytest.raises(IndexError):
                self.shared[place] = x

    @rule(
        begin=st.integers(-9, 9), end=st.integers(-9, 9), step=st.sampled_from([-2, -1, 1, 2, 3]),
        x=st.integers(-128, 127),
    )  # fmt: skip
    def set_slice(self, begin, end, step, x):
        key = slice(begin, end, step)
        assert self.shared[key] == self.model[key]
        data = [x] * len(self.model[key])
        self.shared[key] = data
        self.model[key] = data

    @invariant()
    def both_are_equal(self):
        if hasattr(self, "model"):
            assert self.shared[:] == self.view.tolist() == self.model
            assert memoryview(self.shared).tobytes() == array.array("b", self.model).tobytes()


TestMachine = Machine.TestCase


# --- views ----------------------------------------------------------------------------------------

DTYPES = ["f8", "i2", "?", "S1", "c16", "f2", ">i4", "M8[D]", "U3", [("a", "i4"), ("b", "f8")]]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (0, 3), (3, 0), (50, 500)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_from_numpy_keeps_type_shape_and_elements_and_the_view_is_no_copy(dtype, shape):
    rng = np.random.default_rng(1)
    original = rng.integers(0, 2, shape).astype(dtype, order="F")
    shared = SharedArray.from_numpy(original)
    view, other = np.asarray(shared), np.asarray(shared)
    assert (view.dtype, view.shape, shared.shape) == (original.dtype, shape, shape)
    assert (view == original).all()
    assert view.flags.writeable
    view[...] = np.zeros((), dtype)
    assert (other == np.zeros((), dtype)).all()
    if shared.shape and shared.shape[0]:
        assert np.asarray(shared)[0].tolist() == np.asarray(shared[0]).tolist()


def test_a_child_sees_what_is_written_through_a_view(pool):
    shared = SharedArray.from_numpy(np.zeros((4, 5)))
    parallel_map(lambda i: np.asarray(shared)[i].__setitem__(slice(None), i), range(4), pool=pool)
    assert np.asarray(shared).tolist() == [[float(i)] * 5 for i in range(4)]


def test_rows_are_arrays_over_the_same_memory():
    shared = SharedArray("i", range(24), shape=(2, 3, 4))
    assert (shared[1, 2, 3], shared[1][2][3], shared[-1, -1, -1]) == (23, 23, 23)
    shared[0][1][2] = -1
    shared[1, 0] = [7, 7, 7, 7]
    shared[0, 0, 0] = 9
    row = parallel_map(lambda row: row[:], [shared[1][0]], max_workers=1)
    assert row == [[7, 7, 7, 7]]
    assert [len(row) for row in shared] == [3, 3]
    assert np.asarray(shared)[0, 1, 2] == -1
    assert np.asarray(shared[0])[0, 0] == 9
    assert [row.shape for row in shared[::-1]] == [(3, 4), (3, 4)]
    for key in (2, (0, 3), (0, 0, 0, 0), (0, 0, 4)):
        with pytest.raises(IndexError):
            shared[key]


def part_of_a_view(shared):
    return np.asarray(shared)[1:]


@pytest.mark.parametrize("view", [np.asarray, memoryview, part_of_a_view])
@pytest.mark.parametrize("code", ["q", "F"])
def test_a_view_keeps_the_memory(view, code):
    """Else the block would be given to the next array, and the view would show that one's elements."""
    if view is memoryview and code == "F" and sys.version_info < (3, 12):
        pytest.skip("documented: no memoryview of what only NumPy knows before 3.12")
    kept = view(SharedArray(code, 3))
    collect()
    others = [SharedArray("q", [9, 9, 9]) for _ in range(30)]
    assert not np.asarray(kept).any()
    del others


def test_a_memoryview_is_typed():
    view = memoryview(SharedArray("d", [1.5, 2.5, 3.5]))
    assert (view.format.lstrip("<"), view.shape, view.readonly) == ("d", (3,), False)
    native = view if sys.version_info >= (3, 12) else view.cast("B").cast("d")
    assert native.tolist() == [1.5, 2.5, 3.5]
    assert memoryview(SharedArray("d", shape=(2, 3))).shape == (2, 3)


def test_it_is_read_and_written_by_whatever_takes_buffers(tmp_path):
    shared = SharedArray("i", range(5))
    path = tmp_path / "data"
    path.write_bytes(shared)
    assert array.array("i", path.read_bytes()).tolist() == [0, 1, 2, 3, 4]
    other = SharedArray("i", 5)
    with path.open("rb") as file:
        assert file.readinto(other) == 20
    assert other[:] == shared[:]


def test_a_large_array_gives_its_memory_back():
    shared = SharedArray("d", 1_000_000)
    shared[999_999] = 1.0
    del shared
    gc.collect()  # the fixture looks for the descriptors


# --- together -------------------------------------------------------------------------------------


def test_its_lock_is_a_lock_and_one_for_all():
    shared = SharedArray("q", 1)
    assert isinstance(shared.lock, Lock)
    assert shared.lock is shared.lock

    def count(rank):
        for _ in range(300):
            with shared.lock:
                shared[0] += 1

    run_workers(count, 2)
    assert shared[0] == 600


def test_what_cannot_be_an_array_is_refused_in_words():
    numpy = pytest.importorskip("numpy")
    for type_ in str, numpy.dtype("S"):
        with pytest.raises(TypeError, match="how long the elements are"):
            SharedArray(type_, 3)
    with pytest.raises(MemoryError):
        SharedArray("d", 1 << 62)


def test_rows_say_which_index_is_none():
    shared = SharedArray("d", shape=(2, 3))
    with pytest.raises(IndexError, match="row 2 of 2"):
        shared[2]
    with pytest.raises(TypeError, match="asarray"):
        shared[:, 0]


def test_an_array_is_equal_to_itself_only():
    shared = SharedArray("b", 1)
    assert {shared: 1}[shared] == 1
    assert shared != SharedArray("b", 1)


def test_its_lock_is_held_from_acquire_to_release():
    """Without ``with`` nobody keeps the object that `lock` gives."""
    shared = SharedArray("d", shape=(2, 2))
    for look in (lambda: shared), (lambda: shared[0]):  # a row is a new object each time
        assert look().lock.acquire()
        gc.collect()
        assert look().lock.locked()
        look().lock.release()
        assert not look().lock.locked()


def test_a_holder_that_is_killed_leaves_the_lock_and_says_so():
    shared = SharedArray("q", 1)

    def hold(me):
        with shared.lock:
            me.say()
            me.hear()

    with child(hold) as process:
        process.hear()
        assert not shared.lock.acquire(timeout=0.01)
        process.kill()
        with shared.lock:
            assert shared.lock.was_abandoned
    with shared.lock:
        assert not shared.lock.was_abandoned


def test_rows_and_copies_elsewhere_have_the_same_lock(pool):
    shared: Any = SharedArray("q", shape=(2, 2))
    assert shared[0].lock is shared.lock
    with shared.lock:
        assert parallel_map(lambda a: a.lock.acquire(block=False), [shared], pool=pool) == [False]


def test_elements_do_not_tear():
    """One writes words of equal bytes; others never see a word of two kinds."""
    shared = SharedArray("Q", 1)
    words = [int.from_bytes(bytes([n]) * 8, "little") for n in range(256)]

    def write(me):
        for _ in range(300):
            for word in words:
                shared[0] = word

    with child(write) as process:
        seen = {shared[0] for _ in range(50_000)}
        process.end_well()
    assert seen <= set(words)
