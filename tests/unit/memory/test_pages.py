"""Memory for large arrivals: used again, but never while anybody looks at it."""

from __future__ import annotations

import mmap
import threading

import pytest

from parmap._memory import pages

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="Linux has it")

SIZE = pages.LARGE


@pytest.fixture(autouse=True)
def nothing_is_kept():
    pages.forget()
    yield
    pages.forget()


@pytest.fixture
def clock(monkeypatch):
    """The time that passes for `pages`, in a list."""
    now = [100.0]
    monkeypatch.setattr(pages, "monotonic", lambda: now[0])
    return now


def marked(size: int = SIZE, mark: bytes = b"mine"):
    """New memory in which something is written."""
    view = pages.fresh(size)
    view[: len(mark)] = mark
    return view


def is_the_same(view) -> bool:
    """Whether it is memory that somebody has marked before."""
    return bytes(view[:4]) == b"mine"


def test_what_nobody_looks_at_is_used_again():
    marked()
    assert is_the_same(pages.fresh(SIZE))


def test_what_somebody_looks_at_is_not():
    first = marked()
    second = pages.fresh(SIZE)
    assert not is_the_same(second)
    second[:4] = b"your"
    assert is_the_same(first)


@pytest.mark.parametrize(
    "keep",
    [
        lambda view: view[10:20],
        lambda view: view.cast("I"),
        lambda view: view.toreadonly(),
        lambda view: memoryview(view),
        lambda view: __import__("pickle").PickleBuffer(view),
        lambda view: __import__("numpy").frombuffer(view, "u1"),
        lambda view: __import__("numpy").frombuffer(view, "u1").reshape(2, -1).T[::3],
        lambda view: __import__("ctypes").c_char.from_buffer(view),
    ],
    ids=[
        "slice",
        "cast",
        "readonly",
        "second",
        "picklebuffer",
        "array",
        "array of array",
        "ctypes",
    ],
)
def test_any_kind_of_view_keeps_it(keep):
    view = marked()
    kept = keep(view)
    del view

    assert not is_the_same(pages.fresh(SIZE))
    del kept
    assert is_the_same(pages.fresh(SIZE))


def test_memory_of_another_size_serves_if_it_wastes_no_more_than_half():
    marked(2 * SIZE)
    smaller = pages.fresh(SIZE + 1)
    assert is_the_same(smaller)
    assert len(smaller) == SIZE + 1


def test_far_larger_memory_is_not_wasted_on_little():
    marked(2 * SIZE + 1)
    assert not is_the_same(pages.fresh(SIZE))


def test_what_is_kept_is_bounded(monkeypatch):
    """The oldest goes first, and what somebody looks at lives on without being kept."""
    monkeypatch.setattr(pages, "MOST_BYTES", 2 * SIZE)
    views = [marked() for _ in range(3)]
    assert sum(map(len, pages._remembered)) == 2 * SIZE
    assert all(map(is_the_same, views))

    monkeypatch.setattr(pages, "MOST_BYTES", SIZE - 1)
    views.append(marked(2 * SIZE))
    assert pages._remembered == []
    assert is_the_same(views[-1])


def test_it_is_given_back_when_nothing_large_has_come_for_a_while(clock):
    held = marked()
    clock[0] += pages.KEEP_SECONDS / 2
    assert pages.tidy() == pages.KEEP_SECONDS / 2
    pages.fresh(SIZE)
    clock[0] += pages.KEEP_SECONDS / 2
    assert pages.tidy() == pages.KEEP_SECONDS / 2

    clock[0] += pages.KEEP_SECONDS
    assert pages.tidy() is None
    assert pages._remembered == []
    assert is_the_same(held)


def test_small_things_are_none_of_its_business():
    assert type(pages.fresh(SIZE - 1)) is bytearray
    assert pages._remembered == []


def test_without_large_pages_it_is_ordinary_memory(monkeypatch):
    monkeypatch.setattr(pages, "_IN_LARGE_PAGES", None)
    assert type(pages.fresh(SIZE)) is bytearray


@pytest.mark.parametrize("refused", ["mapping", "advice"])
def test_a_system_that_refuses_does_no_harm(monkeypatch, refused):
    class Refusing(mmap.mmap):
        def __new__(cls, *args, **options):
            if refused == "mapping":
                raise OSError(12, "too many mappings")
            return super().__new__(cls, *args, **options)

        def madvise(self, *advice):
            raise OSError(22, "no such advice")

    monkeypatch.setattr(mmap, "mmap", Refusing)

    view = pages.fresh(SIZE)

    assert len(view) == SIZE
    assert (type(view) is bytearray) == (refused == "mapping")


def test_while_another_thread_looks_for_memory_nobody_waits():
    marked()
    with pages._gate:
        assert not is_the_same(pages.fresh(SIZE))
        pages.forget()


def test_threads_never_get_the_same_memory():
    clashes = []

    def use(mark: bytes) -> None:
        for _ in range(200):
            view = pages.fresh(SIZE)
            view[:1] = mark
            view[-1:] = mark
            if bytes(view[:1]) != mark or bytes(view[-1:]) != mark:
                clashes.append(mark)

    threads = [threading.Thread(target=use, args=(mark,)) for mark in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clashes == []
