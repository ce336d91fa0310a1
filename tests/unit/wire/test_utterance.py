"""What workers say arrives whole, however it is cut and mixed on its way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parmap._wire.utterance import ERR, LOG, OUT, Assembly, Utterance, joined, parts

MOST = 100


def said(payload: bytes, kind: int = OUT, pid: int = 1, chunk: int = 0) -> Utterance:
    return Utterance(kind, payload, worker=7, pid=pid, chunk=chunk, index=3)


@given(
    messages=st.lists(st.binary(max_size=300), max_size=10),
    order=st.randoms(use_true_random=False),
    cuts=st.lists(st.integers(1, 150), min_size=1),
)
def test_messages_arrive_whole_whatever_is_between_their_parts(messages, order, cuts):
    waiting = [list(parts(said(m, pid=n), 0, MOST)) for n, m in enumerate(messages)]
    assert all(len(part) <= MOST for each in waiting for part in each)
    stream = b""
    while any(waiting):
        stream += order.choice([each for each in waiting if each]).pop(0)

    assembly, at = Assembly(), 0
    heard: list[Utterance] = []
    while at < len(stream):
        size = cuts[at % len(cuts)]
        heard += assembly.feed(stream[at : at + size])
        at += size

    assert {each.pid: each.payload for each in heard} == dict(enumerate(messages))
    assert {(each.kind, each.worker, each.chunk, each.index) for each in heard} <= {(OUT, 7, 0, 3)}


def test_what_is_no_message_is_dropped():
    assembly = Assembly()

    assert list(assembly.feed(b"x" * 1000)) == []
    assert [each.payload for each in assembly.feed(next(parts(said(b"ok"), 0, MOST)))] == [b"ok"]


def test_texts_of_one_process_are_joined_and_keep_their_place_among_its_other_words():
    heard = joined(
        [
            said(b"a"), said(b"x", pid=2), said(b"b"), said(b"r", kind=LOG), said(b"c"),
            said(b"y", pid=2), said(b"e", kind=ERR), said(b"d"), said(b"next", chunk=1),
        ]
    )  # fmt: skip

    assert [(each.pid, each.kind, each.payload) for each in heard] == [
        (1, OUT, b"ab"), (2, OUT, b"xy"), (1, LOG, b"r"), (1, OUT, b"c"), (1, ERR, b"e"),
        (1, OUT, b"d"), (1, OUT, b"next"),
    ]  # fmt: skip


def test_a_message_that_has_begun_waits_for_its_last_part_and_its_neighbours_do_not():
    long, short = [*parts(said(b"x" * 150), 1, MOST)], [*parts(said(b"short"), 2, MOST)]
    assert len(long) > 2
    assembly = Assembly()

    assert list(assembly.feed(long[0] + long[1])) == []
    assert [each.payload for each in assembly.feed(short[0])] == [b"short"]
    assert [each.payload for each in assembly.feed(b"".join(long[2:]))] == [b"x" * 150]
