"""A pipeline of processes in which some crash, are started again, and nothing is lost.

    python examples/09_supervised_pipeline.py

    feed ──a desk for each──▶ workers, restarted when they die ──news──▶ feed

What to notice: what a worker had in hands dies with it, so who feeds knows what each of them has, and
gives it out again when that worker comes back. Nobody sends a `None` to end anything: the workers'
loops end when the last sender of their desk is closed, and the block waits for them.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING

from parmap import Channel, Restart, SharedDict, WorkerGroup

if TYPE_CHECKING:
    from parmap import Receiver, Sender

ORDERS, WORKERS = 60, 2
# Who says it; and the number and its square, or None: here I am, for the first time or again.
News = tuple[int, tuple[int, int] | None]

crashed = SharedDict[int, bool]({13: False, 37: False})  # outlives those who write into it


def square(rank: int, desk: Receiver[int], news: Sender[News]) -> None:
    """Squares numbers; dies without a word at two of them, when they come for the first time."""
    news.send((rank, None))
    for number in desk:
        if number in crashed and not crashed[number]:
            crashed[number] = True
            os._exit(9)  # as a crash in C code would
        news.send((rank, (number, number * number)))


def feed() -> dict[int, int]:
    """Give numbers out, one for each worker at a time, until the square of each is here."""
    desks = [Channel[int](1) for _ in range(WORKERS)]
    news = Channel[News]()
    todo, in_hand, squares = deque(range(ORDERS)), dict[int, int](), dict[int, int]()
    with WorkerGroup() as group:
        for rank, desk in enumerate(desks):
            group.start(
                square, rank, desk.receiver, news.sender,
                name=f"worker-{rank}", restart=Restart(max_restarts=5),
            )  # fmt: skip
        for rank, found in news:
            if found is not None:
                squares.update([found])
            if found is None and rank in in_hand:
                todo.append(in_hand[rank])  # it has died with that
            if len(squares) == ORDERS:
                break
            in_hand.pop(rank, None)
            if todo:
                in_hand[rank] = todo.popleft()
                desks[rank].send(in_hand[rank])
        for desk in desks:
            desk.close()
    return squares


logging.getLogger("parmap").setLevel(logging.ERROR)  # each restart is told as a warning
squares = feed()
print("squares:", len(squares), "| all right:", all(n * n == s for n, s in squares.items()))
print("workers that crashed and were started again:", sum(crashed.values()))
