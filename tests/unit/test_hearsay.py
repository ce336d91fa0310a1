"""What workers have said is delivered once, in order, and never waits long behind one who is stuck."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from parmap._calls import delivery
from parmap._calls import hearsay as module
from parmap._calls.hearsay import Hearsay, Said
from parmap._wire.utterance import OUT, Utterance
from support.gates import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hearsay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hearsay]:
    """One of our own, so that no other test's words are in it."""
    fresh = Hearsay()
    monkeypatch.setattr(module, "hearsay", fresh)
    yield fresh
    assert not fresh


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    texts: list[bytes] = []
    monkeypatch.setattr(delivery, "deliver", lambda said: texts.append(said.payload))
    return texts


def note(hearsay: Hearsay, *texts: bytes) -> list[Said]:
    said = [Said(Utterance(OUT, text, worker=1, pid=1, chunk=-1, index=-1)) for text in texts]
    for each in said:
        hearsay.note(each)
    return said


def test_everything_is_delivered_once_and_in_order(hearsay, heard):
    first, *_ = note(hearsay, b"a", b"b", b"c")
    first.deliver()
    assert heard == [b"a"]
    hearsay.deliver()
    first.deliver()

    assert heard == [b"a", b"b", b"c"]


def test_a_thread_delivers_what_nobody_comes_for_and_ends(hearsay, heard):
    note(hearsay, b"a", b"b")
    hearsay.serve()
    wait_until(lambda: not hearsay and hearsay._thread is None)

    assert heard == [b"a", b"b"]


def test_much_is_delivered_by_the_thread_even_if_somebody_should_come(hearsay, heard, monkeypatch):
    monkeypatch.setattr(module, "MUCH", 2_000)
    note(hearsay, b"a" * 900, b"b" * 900)
    wait_until(lambda: not hearsay and hearsay._thread is None)

    assert len(heard) == 2


class Stuck:
    """A delivery that does not end before the test says so."""

    def __init__(self, heard: list[bytes]) -> None:
        self.heard = heard
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, said: Utterance) -> None:
        if said.payload == b"stuck":
            self.begun.set()
            assert self.go_on.wait(20)
        self.heard.append(said.payload)


def test_one_who_is_stuck_in_a_handler_is_waited_for_once_only(hearsay, heard, monkeypatch):
    stuck = Stuck(heard)
    monkeypatch.setattr(delivery, "deliver", stuck)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    note(hearsay, b"stuck")
    hearsay.serve()
    assert stuck.begun.wait(20)

    note(hearsay, b"a", b"b")
    hearsay.deliver()
    assert heard == [b"a", b"b"]
    assert hearsay

    stuck.go_on.set()
    wait_until(lambda: not hearsay and hearsay._thread is None)
    assert heard == [b"a", b"b", b"stuck"]


def test_the_thread_does_not_wait_for_what_another_is_delivering(hearsay, heard, monkeypatch):
    stuck = Stuck(heard)
    monkeypatch.setattr(delivery, "deliver", stuck)
    note(hearsay, b"stuck")
    other = threading.Thread(target=hearsay.deliver)
    other.start()
    assert stuck.begun.wait(20)

    hearsay.serve()
    wait_until(lambda: hearsay._thread is None)
    stuck.go_on.set()
    other.join()

    assert heard == [b"stuck"]


def test_who_has_to_wait_is_called_once_it_is_less(hearsay, heard, monkeypatch):
    monkeypatch.setattr(module, "TOO_MUCH", 2_000)
    called = threading.Event()
    note(hearsay, b"a" * 900, b"b" * 900)
    assert hearsay.is_too_much
    hearsay.when_less(called.set)
    assert not called.is_set()
    hearsay.deliver()

    assert called.is_set()
    assert not hearsay.is_too_much
