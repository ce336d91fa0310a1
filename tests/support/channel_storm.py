"""SIGKILL at random moments under full load, and an exact account of what came of it.

Run as ``python -m support.channel_storm '{"producers": 2, ...}'`` in a fresh interpreter; prints
one line of JSON. What each process has done stands in a file of its own, written with one system
call per message: so it survives the kill, and says exactly what was sent and received.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import select as system_select
import signal
import statistics
import struct
import sys
import tempfile
import time
import traceback
from typing import Any, NamedTuple

from parmap.channel import Channel, select
from parmap.errors import ChannelEmpty, ChannelFull, EndOfChannel
from parmap.testing.leaks import nothing_left_behind
from support.channel_peers import activity, collect, dump_stacks, open_files

RECORD = struct.Struct("<qq")
# Without progress for so long the channel hangs; DESIGN.md wants 1 s at most, on a quiet machine.
HANG = 10.0
# From the last sender's death to the last receiver's end.
LATE_END = 5.0
LEAST, MOST = 100_000, 1_000_000
NOISE = random.Random(7).randbytes(2 * MOST)


class Plan(NamedTuple):
    producers: int
    consumers: int
    kills: int
    large: bool
    seed: int
    capacity: int = 16
    pause: float = 0.008  # at most so long until the next kill


def load(number: int, serial: int) -> bytes | bytearray | None:
    """The bytes that a large message carries: of any size, and known to both sides."""
    size = LEAST + (serial * 7919 + number * 104_729) % (MOST - LEAST)
    begin = (serial * 31 + number) % MOST
    data = NOISE[begin : begin + size]
    return bytearray(data) if serial % 2 else data


def produce(plan: Plan, channel: Channel[Any], number: int, log: int) -> None:
    sender = channel.sender
    serial = 0
    while True:
        item = (number, serial, load(number, serial) if plan.large else None)
        while True:
            try:
                if number % 3 == 1:
                    sender.try_send(item)
                elif number % 3 == 2:
                    sender.send(item, timeout=0.02)
                else:
                    sender.send(item)
                break
            except ChannelFull:
                with contextlib.suppress(TimeoutError):
                    sender.send(item, timeout=0.005)
                    break
            except TimeoutError:
                continue
        os.write(log, RECORD.pack(number, serial))
        serial += 1


def consume(plan: Plan, channel: Channel[Any], number: int, log: int) -> None:
    receiver = channel.receiver
    while True:
        try:
            if number % 4 == 1:
                select(receiver)
                item = receiver.try_receive()
            elif number % 4 == 2:
                item = receiver.receive(timeout=0.02)
            elif number % 4 == 3:
                (item,) = receiver.receive_many(1)
            else:
                item = receiver.receive()
        except (ChannelEmpty, TimeoutError):
            continue
        except EndOfChannel:
            return
        who, serial, data = item
        if data is not None and data != load(who, serial):
            raise AssertionError(f"message {serial} of sender {who} is torn")
        os.write(log, RECORD.pack(who, serial))


class Member:
    """One process of the storm, and its log."""

    def __init__(self, storm: Storm, role: str, number: int) -> None:
        self.role, self.number = role, number
        with tempfile.TemporaryFile(buffering=0) as file:
            self.log = os.dup(file.fileno())
        self.pid = os.fork()
        if self.pid == 0:
            self.live(storm)

    def live(self, storm: Storm) -> None:
        status = 70
        try:
            faulthandler.register(signal.SIGUSR1, all_threads=True)
            storm.close_holds()
            work = produce if self.role == "producer" else consume
            work(storm.plan, storm.channel, self.number, self.log)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def count(self) -> int:
        return os.fstat(self.log).st_size // RECORD.size

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.reap(-signal.SIGKILL)

    def reap(self, expected: int) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code != expected:
            raise AssertionError(f"a {self.role} ended with {code} by itself")

    def records(self) -> list[tuple[int, int]]:
        """All that it logged; closes the log."""
        size = os.fstat(self.log).st_size
        data = os.pread(self.log, size, 0)
        os.close(self.log)
        return list(RECORD.iter_unpack(data[: size - size % RECORD.size]))


class Storm:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.channel: Channel[Any] = Channel(plan.capacity)
        # The storm's own ends bridge the moment in which all of a role are dead.
        self.holds: list[Any] = [self.channel.sender, self.channel.receiver]
        self.members: list[Member] = []
        self.next_number = 0
        self.sent: dict[int, int] = {}
        self.logs: list[list[tuple[int, int]]] = []
        self.killed = {"producer": 0, "consumer": 0}
        self.stalls: list[float] = []

    def close_holds(self) -> None:
        for hold in self.holds:
            hold.close()

    def start(self, role: str) -> None:
        self.members.append(Member(self, role, self.next_number))
        self.next_number += 1

    def bury(self, member: Member) -> None:
        """Read what a dead member has logged."""
        records = member.records()
        if member.role == "producer":
            if records != [(member.number, serial) for serial in range(len(records))]:
                raise AssertionError("a producer's log is wrong: the storm itself is broken")
            self.sent[member.number] = len(records)
        else:
            self.logs.append(records)

    def strike(self) -> None:
        """Kill one, perhaps after it was stopped for a while, and put another in its place."""
        nap(self.rng.uniform(0.0, self.plan.pause))
        member = self.members.pop(self.rng.randrange(len(self.members)))
        if self.rng.random() < 0.3:
            os.kill(member.pid, signal.SIGSTOP)
            nap(self.rng.uniform(0.0, 0.004))
        member.kill()
        began = time.monotonic()
        self.killed[member.role] += 1
        self.bury(member)
        self.start(member.role)
        self.wait_for_progress(self.received(), began)

    def received(self) -> dict[int, int]:
        return {m.number: m.count() for m in self.members if m.role == "consumer"}

    def wait_for_progress(self, before: dict[int, int], began: float) -> None:
        while True:
            if any(count > before.get(number, 0) for number, count in self.received().items()):
                self.stalls.append(time.monotonic() - began)
                return
            self.check_alive()
            if time.monotonic() - began > HANG:
                dump_stacks([member.pid for member in self.members])
                raise AssertionError(f"nothing was received for {HANG} s: it hangs")
            nap(0.0005)

    def check_alive(self) -> None:
        for member in self.members:
            if activity(member.pid).state in "ZX":
                member.reap(-signal.SIGKILL)

    def end(self) -> float:
        """Kill all producers at once; the consumers drain and end. Returns how long that took."""
        self.close_holds()
        producers = [member for member in self.members if member.role == "producer"]
        for member in producers:
            os.kill(member.pid, signal.SIGKILL)
        for member in producers:
            member.reap(-signal.SIGKILL)
            self.bury(member)
        began = time.monotonic()
        consumers = [member for member in self.members if member.role == "consumer"]
        for member in consumers:
            pidfd = os.pidfd_open(member.pid)
            remaining = max(0.0, began + HANG - time.monotonic())
            over = system_select.select([pidfd], [], [], remaining)[0]
            os.close(pidfd)
            if not over:
                dump_stacks([member.pid for member in consumers])
                raise AssertionError(f"no end of the stream {HANG} s after the last sender's death")
            member.reap(0)
        took = time.monotonic() - began
        for member in consumers:
            self.bury(member)
        self.members.clear()
        return took

    def account(self) -> dict[str, int]:
        """Check every promise on what was sent and received."""
        got = [record for log in self.logs for record in log]
        names = set(got)
        if len(got) != len(names):
            raise AssertionError(f"{len(got) - len(names)} messages came twice")
        for log in self.logs:
            last: dict[int, int] = {}
            for number, serial in log:
                if serial <= last.get(number, -1):
                    raise AssertionError(f"sender {number} was received out of order")
                last[number] = serial
        unknown = [name for name in names if name[1] > self.sent[name[0]]]
        if unknown:
            raise AssertionError(f"received what was never sent: {unknown[:5]}")
        missing = sum(
            (number, serial) not in names
            for number, count in self.sent.items()
            for serial in range(count)
        )
        if missing > self.killed["consumer"]:
            raise AssertionError(
                f"{missing} messages are missing, of {self.killed['consumer']} killed receivers"
            )
        return {"messages": len(got), "missing": missing}

    def memory(self) -> int:
        """The bytes that files without a name hold for this process: the channel's own."""
        sizes = {}
        logs = {member.log for member in self.members}
        for fd, target in open_files().items():
            if "deleted" in target and fd not in logs:
                with contextlib.suppress(OSError):
                    status = os.fstat(fd)
                    sizes[status.st_ino] = status.st_blocks * 512
        return sum(sizes.values())


def nap(seconds: float) -> None:
    """Let the others run: chance is the purpose, nothing depends on it."""
    system_select.select([], [], [], seconds)


def run(plan: Plan) -> dict[str, Any]:
    """Have the storm, and see that it leaves no process, descriptor or file in /dev/shm."""
    warm = Channel(2)  # what a process keeps for all channels is there from now on
    warm.send(b"x" * 200_000)
    warm.receive()
    warm.close()
    del warm
    collect()
    with nothing_left_behind(shutdown=False):
        return rage(plan)


def rage(plan: Plan) -> dict[str, Any]:
    storm = Storm(plan)
    try:
        for _ in range(plan.producers):
            storm.start("producer")
        for _ in range(plan.consumers):
            storm.start("consumer")
        storm.wait_for_progress({}, time.monotonic())
        storm.stalls.clear()
        for _ in range(plan.kills):
            storm.strike()
        memory = storm.memory()
        end = storm.end()
    finally:
        for member in storm.members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
    account = storm.account()
    check_over(storm)
    if end > LATE_END:
        raise AssertionError(f"the end came {end:.2f} s after the last sender's death")
    return {
        "killed": storm.killed,
        **account,
        "end_ms": round(end * 1000, 1),
        "median_stall_ms": round(statistics.median(storm.stalls) * 1000, 1),
        "worst_stall_ms": round(max(storm.stalls) * 1000, 1),
        "memory_mb": round(memory / 1e6, 1),
    }


def check_over(storm: Storm) -> None:
    """The stream has ended for those who come late, too."""
    try:
        item = storm.channel.receive(timeout=1.0)
    except EndOfChannel:
        return
    raise AssertionError(f"{item!r:.60} was left in the channel")


if __name__ == "__main__":
    faulthandler.enable()
    print(json.dumps(run(Plan(**json.loads(sys.argv[1])))))
