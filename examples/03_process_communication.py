"""Processes that talk: one way, both ways, many producers and consumers, in step, and without deadlock.

    python examples/03_process_communication.py

What to notice: a stream ends when its last sender is gone, closed or dead. So nobody sends a `None`,
which would end one consumer and leave the others waiting. Who starts several producers holds an end
meanwhile (`as hold`): the first might be done, and the stream over, before the second exists.
"""

from __future__ import annotations

from parmap import Channel, ChannelError, Duplex, Receiver, Sender, WorkerGroup, run_workers


def report(lines: Sender[str]) -> None:
    for step in ("begun", "half-way", "done"):
        lines.send(step)


def answer(questions: Duplex[int]) -> None:
    for number in questions:
        questions.send(number * number)


def produce(numbers: range, jobs: Sender[int]) -> None:
    jobs.send_many(numbers)


def consume(jobs: Receiver[int], results: Sender[int]) -> int:
    mine = []
    for job in jobs:
        results.send(job + 1000)
        mine.append(job)
    return len(mine)


def pass_the_word(rank: int, ring: list[Channel[str]]) -> str:
    heard = ring[rank - 1].receive() if rank else "word"  # waits for the one in front
    ring[rank].send(f"{heard} {rank}")
    return heard


print("1. One way: a worker sends, we receive until it is done")
lines = Channel[str]()
with WorkerGroup() as group:
    group.start(report, lines.sender)
    print("  ", *lines)

print("2. Both ways: what `Pipe()` was")
ours, theirs = Channel[int].pair()
with WorkerGroup() as group, ours:
    group.start(answer, theirs)
    theirs.close()  # the worker has its own copy
    for number in (2, 3):
        ours.send(number)
        print(f"   {number} squared is {ours.receive()}")

print("3. Two producers, three consumers: every item arrives once, and everybody ends")
jobs, results = Channel[int](capacity=4), Channel[int]()
with WorkerGroup() as group:
    with jobs.sender as hold, results.sender:
        for first in (0, 50):
            group.start(produce, range(first, first + 50), hold)
        consumers = [group.start(consume, jobs.receiver, results.sender) for _ in range(3)]
    received = sorted(results)
complete, shared = received == list(range(1000, 1100)), [c.result() for c in consumers]
print("   all there:", complete, "| consumers:", len(shared), "| items:", sum(shared))

print("4. In step: nobody goes on before the one in front has spoken")
print("  ", " | ".join(run_workers(pass_the_word, 3, [Channel[str](1) for _ in range(3)])))

print("5. No deadlock: who forgets to close is told so, instead of waiting for ever")
forgotten = Channel[int]()
try:
    with WorkerGroup() as group:
        group.start(list[int], forgotten)
        forgotten.send(1)
except* ChannelError as errors:
    print("  ", str(errors.exceptions[0]).rpartition(": ")[0].partition(", and ")[2])
