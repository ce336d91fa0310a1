"""Channel beside the queues and pipes of others, interleaved in one run.

    python benchmarks/channel.py [--rounds N] [--json] [SCENARIO ...]

Scenarios: ``1->1 2->2 1->4 4->1`` (small ints, senders -> receivers), ``64KB 1MB`` (one to one),
``latency`` (one way, ping-pong), ``idle`` (wake-ups per message with 8 idle receivers).
Each contestant runs in fresh forked processes; CPU is of all of them, their start included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from parmap.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY = 1000
fork = multiprocessing.get_context("fork")


class Queue(NamedTuple):
    """One contestant: how to send and to receive through it."""

    send: Callable[[Any], object]
    receive: Callable[[], Any]
    done: Callable[[], object] = lambda: None  # in a sender, at its end


def channel() -> Queue:
    # Ends, not the neutral channel: a forked child uses what it inherits.
    made: Channel[Any] = Channel(CAPACITY)
    sender, receiver = made.sender, made.receiver
    return Queue(sender.send, receiver.receive)


def mp_queue() -> Queue:
    made: Any = fork.Queue(CAPACITY)

    def flush() -> None:
        made.close()
        made.join_thread()

    return Queue(made.put, made.get, flush)


def simple_queue() -> Queue:
    made: Any = fork.SimpleQueue()
    return Queue(made.put, made.get)


def manager_queue() -> Queue:
    manager = fork.Manager()
    made: Any = manager.Queue(CAPACITY)
    return Queue(made.put, made.get, lambda: repr(manager))  # its server lives as long as this


def pipe() -> Queue:
    receiver, sender = fork.Pipe(duplex=False)
    return Queue(sender.send, receiver.recv)


def faster_fifo() -> Queue:
    import faster_fifo as ff  # type: ignore[import-not-found,unused-ignore]

    made = ff.Queue(max_size_bytes=8 << 20, maxsize=CAPACITY)
    return Queue(lambda item: made.put(item, timeout=60), lambda: made.get(timeout=60))


ALL: dict[str, Callable[[], Queue]] = {
    "Channel": channel,
    "Queue": mp_queue,
    "SimpleQueue": simple_queue,
    "Pipe": pipe,
    "Manager().Queue": manager_queue,
    "faster_fifo": faster_fifo,
}


def transfer(make: Callable[[], Queue], senders: int, receivers: int, item: Any, count: int) -> Any:
    """Send `count` items in all; return messages per second and microseconds of CPU for each."""
    queue = make()
    share = count // senders

    def send() -> None:
        put = queue.send
        for _ in range(share):
            put(item)
        queue.done()

    def receive() -> None:
        get = queue.receive
        while get() is not None:
            pass

    producers = [fork.Process(target=send) for _ in range(senders)]
    consumers = [fork.Process(target=receive) for _ in range(receivers)]
    before, began = cpu(), time.perf_counter()
    for process in consumers + producers:
        process.start()
    for process in producers:
        process.join()
    for _ in consumers:
        queue.send(None)
    for process in consumers:
        process.join()
    took = time.perf_counter() - began
    queue.done()
    return {"rate": share * senders / took, "cpu": (cpu() - before) / (share * senders) * 1e6}


def latency(make: Callable[[], Queue], count: int = 3000) -> Any:
    """Return half the round trips, in microseconds."""
    there, back = make(), make()

    def echo() -> None:
        for _ in range(count):
            back.send(there.receive())
        back.done()

    process = fork.Process(target=echo)
    process.start()
    trips: list[float] = []
    for number in range(count):
        began = time.perf_counter()
        there.send(number)
        back.receive()
        trips.append((time.perf_counter() - began) / 2 * 1e6)
    there.done()
    process.join()
    trips = sorted(trips[100:])
    return {"p50": trips[len(trips) // 2], "p99": trips[len(trips) * 99 // 100]}


def idle(make: Callable[[], Queue], count: int = 500, receivers: int = 8) -> Any:
    """Return how often receivers wake for each of some messages that come one by one."""
    queue, woken = make(), fork.Value("q", 0)

    def receive() -> None:
        get, before = queue.receive, voluntary()
        while get() is not None:
            pass
        with woken.get_lock():
            woken.value += voluntary() - before

    processes = [fork.Process(target=receive) for _ in range(receivers)]
    for process in processes:
        process.start()
    time.sleep(0.3)  # until all of them wait
    for _ in range(count):
        queue.send(1)
        time.sleep(0.002)
    for _ in range(receivers):
        queue.send(None)
    for process in processes:
        process.join()
    queue.done()
    return {"wakeups": woken.value / count}


def voluntary() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def cpu() -> float:
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


SCENARIOS: dict[str, Callable[[Callable[[], Queue]], Any]] = {
    "1->1": lambda make: transfer(make, 1, 1, 12345, 100_000),
    "2->2": lambda make: transfer(make, 2, 2, 12345, 100_000),
    "1->4": lambda make: transfer(make, 1, 4, 12345, 60_000),
    "4->1": lambda make: transfer(make, 4, 1, 12345, 60_000),
    "64KB": lambda make: transfer(make, 1, 1, b"x" * (1 << 16), 5_000),
    "1MB": lambda make: transfer(make, 1, 1, b"x" * (1 << 20), 300),
    "latency": latency,
    "idle": idle,
}
# A Pipe is one to one.
ONE_TO_ONE = {"1->1", "64KB", "1MB", "latency"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=list(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    contestants = dict(ALL)
    try:
        import faster_fifo as _  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        del contestants["faster_fifo"]
    report: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.scenarios:
        rounds: dict[str, list[dict[str, float]]] = {}
        for _round in range(arguments.rounds):
            for who, make in contestants.items():
                if who != "Pipe" or name in ONE_TO_ONE:
                    rounds.setdefault(who, []).append(SCENARIOS[name](make))
        report[name] = {
            who: {key: statistics.median(r[key] for r in results) for key in results[0]}
            for who, results in rounds.items()
        }
        if not arguments.json:
            show(name, report[name])
    if arguments.json:
        print(json.dumps(report, indent=2))


def show(name: str, results: dict[str, dict[str, float]]) -> None:
    base = results["Queue"]
    for who, figures in results.items():
        cells = [f"{key} {value:12.2f} ({value / base[key]:.2f})" for key, value in figures.items()]
        print(f"{name:8} {who:12} {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
