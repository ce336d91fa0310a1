"""A pretend world for the scheduler: processes, pipes, signals and callers, without one of them.

It has the races of the real one: what a worker wrote before it was killed is still in its pipe and
is heard before its death; a drop or a cancel crosses a result; a process dies before it is ready,
is refused, hangs on its way up, or ignores what it is told.

It also keeps books of its own, made from the commands alone, and holds every command against the
rules in `scheduler.py`: a broken rule is an `AssertionError` at the step that broke it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from parmap._core import commands as cmd
from parmap._core import events as ev
from parmap._core.blame import FREE_DEATHS
from parmap._core.books import GRACE
from parmap._core.chunking import OVERRUN, TARGET_SECONDS
from parmap._core.events import IDLE, UNKNOWN, OnFailure
from parmap._core.scheduler import START_BUDGET, Scheduler
from parmap._core.states import WorkerState
from parmap._core.workers import START_TIMEOUT


class Fate(Enum):
    """What becomes of an item once it is run."""

    FINE = "fine"
    FAILS = "fails"
    POISON = "poison"  # it ends its process
    SLOW = "slow"  # it ends at SIGTERM, never by itself
    STUBBORN = "stubborn"  # it ends at SIGKILL, never by itself


class Start(Enum):
    """What becomes of a process that is asked for."""

    COMES = "comes"
    REFUSED = "refused"
    DIES = "dies"  # before it is ready
    HANGS = "hangs"  # and never says a word


@dataclass
class CallBook:
    """What the world knows of a call."""

    id: int
    cap: int
    chunksize: int | None
    on_failure: OnFailure
    fates: tuple[Fate, ...]
    cost: float
    cursed: bool  # its chunks end each process on arrival
    newest: int  # the newest worker when it was opened
    added: int = 0
    input_ended: bool = False
    all_fed: bool = False  # its caller says so
    stop_at: float = math.inf
    waiting: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)
    begun: dict[int, int] = field(default_factory=dict)  # item -> the worker that began it last
    suspects: set[int] = field(default_factory=set)
    free_deaths: int = 0
    engine_failed: str | None = None

    def fate(self, index: int) -> Fate:
        return self.fates[index] if index < len(self.fates) else Fate.FINE

    def stop(self, index: int) -> None:
        self.stop_at = min(self.stop_at, index)
        self.waiting = {i for i in self.waiting if i < self.stop_at}

    def failed(self, index: int) -> None:
        if self.on_failure is not OnFailure.CONTINUE:
            self.stop(index if self.on_failure is OnFailure.FINISH_EARLIER else 0)

    def wait_again(self, start: int, stop: int) -> None:
        self.waiting |= {i for i in range(start, stop) if i < self.stop_at}


@dataclass
class Held:
    """A chunk at a worker, as the parent knows it: what is in the pipe has not happened yet."""

    chunk: int
    call: CallBook
    next: int
    stop: int
    since: float = 0.0  # it has been the first one

    @property
    def several(self) -> bool:
        return self.stop - self.next > 1


@dataclass
class Job:
    """A chunk at a worker, as the worker knows it."""

    order: cmd.Assign
    begun: bool = False
    inside: bool = False  # an item is being run
    ran: int = 0
    written: int = 0
    failed: list[int] = field(default_factory=list)

    @property
    def index(self) -> int:
        return self.order.start + self.ran


@dataclass
class Process:
    """A worker.  `asked`: the system has not answered yet."""

    number: int
    asked_at: float
    asked: bool = True
    alive: bool = True
    came_up: bool = False
    came_ready: bool = False
    signalled: bool = False
    stopping: bool = False
    drop: int = 0
    cut_to: int = 0
    signalled_to_cut: bool = False  # and has not been heard
    control: int = IDLE
    jobs: deque[Job] = field(default_factory=deque)
    pipe: deque[ev.Event] = field(default_factory=deque)
    # What the parent knows:
    up: bool = False
    ready: bool = False
    told: bool = False
    killed: bool = False
    held: deque[Held] = field(default_factory=deque)

    @property
    def runs(self) -> bool:
        return self.alive and not self.asked

    @property
    def sits_on_items(self) -> bool:
        """It has begun a chunk of several items."""
        return self.runs and bool(self.jobs) and self.jobs[0].begun and self.held[0].several

    @property
    def between_items(self) -> bool:
        """It has begun a chunk, and is in none of its items."""
        return self.runs and bool(self.jobs) and self.jobs[0].begun and not self.jobs[0].inside


class World:
    """Everything around one scheduler."""

    def __init__(self, *, limit: int | None = None, idle_timeout: float | None = None) -> None:
        self.scheduler = Scheduler(limit=limit, idle_timeout=idle_timeout)
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.now = 0.0
        self.calls: dict[int, CallBook] = {}
        self.processes: dict[int, Process] = {}
        self.opened = 0
        self.newest = 0
        self.failed_starts = 0
        self.closing = False
        self.ended: dict[int, str] = {}
        self._accused: tuple[CallBook, int, bool] | None = None  # call, item, must it be charged

    # ------------------------------------------------------------------ what callers do

    def open_call(
        self,
        *,
        cap: int,
        chunksize: int | None = None,
        on_failure: OnFailure = OnFailure.CONTINUE,
        fates: tuple[Fate, ...] = (),
        cost: float = 1e-6,
        cursed: bool = False,
        items: int | None = None,
        name: str | None = None,
    ) -> int:
        self.opened += 1
        book = CallBook(self.opened, cap, chunksize, on_failure, fates, cost, cursed, self.newest)
        self.calls[book.id] = book
        if self.closing:
            book.engine_failed = "closed"
            book.stop(0)
        else:
            self.failed_starts = 0
        if items is not None:
            book.wait_again(0, items)
            book.added = items
            book.input_ended = book.all_fed = True
        self.tell(ev.CallOpened(book.id, cap, chunksize, on_failure, items, name))
        return book.id

    def feed(self, call: int, count: int) -> None:
        if (book := self.calls.get(call)) is not None:
            book.wait_again(book.added, book.added + count)
            book.added += count
        self.tell(ev.ItemsAdded(call, count))

    def end_input(self, call: int) -> None:
        if (book := self.calls.get(call)) is not None:
            book.input_ended = book.all_fed = True
        self.tell(ev.InputEnded(call))

    def cancel_item(self, call: int, index: int) -> None:
        if (book := self.calls.get(call)) is not None and index in book.waiting:
            book.waiting.discard(index)
            book.withdrawn.add(index)
        self.tell(ev.ItemCancelled(call, index))

    def cancel_call(self, call: int, *, hurry: bool) -> None:
        if (book := self.calls.get(call)) is not None:
            book.stop(0)
        self.tell(ev.CallCancelled(call, hurry))

    def shut_down(self, *, cancel: bool) -> None:
        self.closing = True
        if cancel:
            self._fail_all("closed")
        for book in self.calls.values():
            if not book.input_ended:  # its items are finished; its caller had more in mind
                book.input_ended = True
                book.engine_failed = book.engine_failed or "closed"
        self.tell(ev.ShutdownRequested(cancel))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.scheduler.next_deadline()
        if deadline is not None and deadline <= self.now:
            self._count_start_timeouts()
            self.tell(ev.DeadlinePassed())

    # ------------------------------------------------------------------ what processes do

    def start(self, process: Process, how: Start) -> None:
        """The system answers; not yet the process."""
        if not process.asked:
            return
        if how is Start.REFUSED:
            del self.processes[process.number]
            self._start_failed("refused")
            self.tell(ev.WorkerNotStarted(process.number, "refused"))
            return
        process.asked = False
        if how is Start.DIES:
            process.alive = False

    def come_up(self, process: Process) -> None:
        if process.runs and not process.came_up:
            process.came_up = True
            process.pipe.append(ev.WorkerUp(process.number))

    def get_ready(self, process: Process, *, well: bool = True) -> None:
        """Its initializer ends."""
        if not process.runs or not process.came_up or process.came_ready:
            return
        process.came_ready = True
        if well:
            process.pipe.append(ev.WorkerReady(process.number))
        else:
            process.pipe.append(ev.InitializerFailed(process.number, "error"))
            process.stopping = True

    def work(self, process: Process) -> bool:
        """One small step; False if it has nothing to do, or is stuck."""
        if not process.runs or not process.came_ready:
            return False
        if process.signalled and not self._stubborn(process):
            process.alive = False  # between two instructions, wherever it is
            return True
        if not process.jobs:
            process.alive = not process.stopping
            return process.stopping
        return self._work_on(process, process.jobs[0])

    def report(self, process: Process, *, last: bool = False) -> None:
        """Write what there is into the pipe (only between two items)."""
        if not process.between_items:
            return
        job = process.jobs[0]
        first = job.order.start + job.written
        count = job.ran - job.written
        if not count and not last:
            return
        failed = tuple(i for i in job.failed if i >= first)
        process.pipe.append(
            ev.ResultsArrived(
                process.number,
                job.order.chunk,
                first,
                count,
                failed,
                last=last,
                elapsed=count * self._cost(job),
                nbytes=100 * count,
                payload=("report", job.order.chunk, first),
            )
        )
        job.written = job.ran
        process.control = IDLE
        if last:
            process.jobs.popleft()

    def hear_the_cut(self, process: Process) -> bool:
        """The signal arrives, in an item or between two.  It may also come too late, or never."""
        if not (process.runs and process.signalled_to_cut and process.jobs):
            return False
        process.signalled_to_cut = False
        job = process.jobs[0]
        if not job.begun or process.drop < job.order.chunk:
            return False  # it is between two chunks, or was meant for an earlier one
        stop = job.index + job.inside
        process.pipe.append(ev.ChunkCut(process.number, job.order.chunk, stop))
        return True

    def kill(self, process: Process) -> None:
        """Somebody kills it.  What it has written stays in the pipe."""
        if not process.asked:
            process.alive = False

    def hear(self, process: Process) -> None:
        """The parent reads one message."""
        if process.pipe:
            self._hear(process, process.pipe.popleft())

    def bury(self, process: Process) -> None:
        """The parent learns of the death, after the last words."""
        if process.alive:
            return
        while process.pipe:
            self.hear(process)
        running = process.control
        del self.processes[process.number]
        if not process.ready and not process.told:
            self._start_failed("died")
        self._accuse(process, running)
        who = f"worker {process.number}"
        self.tell(ev.WorkerDied(process.number, -9, running, who))
        if self._accused is not None:
            call, index, must = self._accused
            self._accused = None
            assert not must, f"item {index} of call {call.id} killed its worker, and is not charged"

    # ------------------------------------------------------------------ everything, to the end

    def hum(self, how: Start = Start.COMES) -> bool:
        """Everybody takes one step; False if nobody could."""
        moved = False
        for process in list(self.processes.values()):
            moved |= self._step(process, how)
        return moved

    def run_to_the_end(self, how: Start = Start.COMES) -> None:
        """All goes its fair way from here: every call must end, then every worker."""
        for call in list(self.calls):
            self.end_input(call)
        self._run_until(lambda: not self.calls, how)
        self.shut_down(cancel=False)
        self._run_until(lambda: self.scheduler.over, how)
        assert not self.processes

    def _run_until(self, reached, how: Start) -> None:
        for _ in range(3_000):
            if reached():
                return
            if self.hum(how):
                continue
            deadline = self.scheduler.next_deadline()
            if deadline is not None:
                self.wait(max(0.0, deadline - self.now))
            else:
                self._give_up_a_stuck_call()
        raise AssertionError(f"no end in sight: calls {list(self.calls)}")

    def _give_up_a_stuck_call(self) -> None:
        """Nothing moves: an item that never ends must be the reason, and its caller cancels."""
        for process in self.processes.values():
            if process.jobs and process.jobs[0].inside and process.alive and not process.told:
                call = process.jobs[0].order.call
                assert self._fate(process) in (Fate.SLOW, Fate.STUBBORN)
                self.cancel_call(call, hurry=False)
                return
        raise AssertionError(f"a hang: calls {list(self.calls)} wait for nothing")

    def _step(self, process: Process, how: Start) -> bool:
        if process.number not in self.processes:
            return False
        if process.asked:
            self.start(process, how)
        elif not process.alive:
            self.bury(process)
        elif process.pipe:
            self.hear(process)
        elif not process.came_ready:
            return self._step_to_ready(process, how)
        else:
            return self.work(process)
        return True

    def _step_to_ready(self, process: Process, how: Start) -> bool:
        if process.signalled or process.stopping:
            process.alive = False
        elif not process.came_up and how is Start.HANGS:
            return False
        elif not process.came_up:
            self.come_up(process)
        else:
            self.get_ready(process)
        return True

    # ------------------------------------------------------------------ inside a process

    def _cost(self, job: Job) -> float:
        book = self.calls.get(job.order.call)
        return 1e-6 if book is None else book.cost

    def _fate(self, process: Process) -> Fate:
        job = process.jobs[0]
        book = self.calls.get(job.order.call)
        assert book is not None, "a worker still runs an item of a call that is over"
        return book.fate(job.index)

    def _stubborn(self, process: Process) -> bool:
        return (
            bool(process.jobs) and process.jobs[0].inside and self._fate(process) is Fate.STUBBORN
        )

    def _work_on(self, process: Process, job: Job) -> bool:
        if not job.begun:
            job.begun = True
            # The function travels in front of the chunk: its death is before the chunk is begun.
            process.alive = not self.calls[job.order.call].cursed
            process.control = UNKNOWN if process.alive else IDLE
        elif not job.inside:
            self._between(process, job)
        else:
            return self._inside(process, job)
        return True

    def _between(self, process: Process, job: Job) -> None:
        stopped = bool(job.failed) and job.order.stop_on_failure
        if process.drop >= job.order.chunk or job.index == job.order.stop or stopped:
            self.report(process, last=True)
            return
        book = self.calls[job.order.call]
        assert job.index not in book.begun, f"item {job.index} is run a second time for nothing"
        book.begun[job.index] = process.number
        job.inside = True
        if job.order.marked:
            process.control = job.index

    def _inside(self, process: Process, job: Job) -> bool:
        fate = self._fate(process)
        if fate in (Fate.SLOW, Fate.STUBBORN):
            return self.hear_the_cut(process)
        if fate is Fate.POISON:
            process.alive = False
            return True
        if fate is Fate.FAILS:
            job.failed.append(job.index)
        job.ran += 1
        job.inside = False
        return True

    # ------------------------------------------------------------------ what the parent hears

    def _hear(self, process: Process, event: ev.Event) -> None:
        match event:
            case ev.WorkerUp():
                process.up = True
            case ev.WorkerReady():
                process.ready = True
                self.failed_starts = 0
            case ev.InitializerFailed():
                process.ready = process.told = True
                self._fail_all("initializer")
            case ev.ResultsArrived():
                self._hear_results(process, event)
            case ev.ChunkCut():
                self._hear_cut(process, event)
        self.tell(event)

    def _hear_cut(self, process: Process, event: ev.ChunkCut) -> None:
        assert process.held[0].chunk == event.chunk
        first, *later = process.held
        given_back = [(first, max(event.stop, first.next))]
        given_back += [(held, held.next) for held in later]
        for held, stop in given_back:
            held.call.wait_again(stop, held.stop)
            held.stop = min(held.stop, stop)

    def _hear_results(self, process: Process, event: ev.ResultsArrived) -> None:
        held = process.held[0]
        book = held.call
        held.next += event.count
        book.free_deaths = 0
        if event.last:
            process.held.popleft()
            book.wait_again(held.next, held.stop)
            if process.held:
                process.held[0].since = self.now
        if event.failed:
            book.failed(event.failed[0])

    def _accuse(self, process: Process, running: int) -> None:
        """Whom this death may charge.  All else of the worker waits again."""
        if not process.held:
            return
        first, book = process.held[0], process.held[0].call
        for held in process.held:
            book.wait_again(held.next, held.stop)
            for index in range(held.next, held.stop):
                book.begun.pop(index, None)  # it may run again: its worker is dead
        left = first.stop - first.next
        if first.next <= running < first.stop:
            self._accused = (book, running, running < book.stop_at)
        elif running == UNKNOWN and left == 1:
            self._accused = (book, first.next, first.next < book.stop_at)
        elif running == UNKNOWN:
            book.suspects.update(range(first.next, first.stop))
        elif left and process.number > book.newest:
            book.free_deaths += 1
            if book.free_deaths > FREE_DEATHS:
                self._accused = (book, first.next, False)

    def _start_failed(self, reason: str) -> None:
        self.failed_starts += 1
        if self.failed_starts >= START_BUDGET and not any(self._present()):
            self.failed_starts = 0
            self._fail_all(reason)

    def _count_start_timeouts(self) -> None:
        for process in self.processes.values():
            late = process.asked_at + START_TIMEOUT <= self.now
            if late and not process.up and not process.ready and not process.told:
                process.told = True
                self._start_failed("timeout")

    def _fail_all(self, reason: str) -> None:
        for book in self.calls.values():
            if book.engine_failed is None or book.stop_at == math.inf:
                book.engine_failed = reason
            book.stop(0)

    # ------------------------------------------------------------------ obeying, with a sharp eye

    def tell(self, event: ev.Event) -> None:
        """One event in; each command is checked, then obeyed."""
        commands = self.scheduler.handle(event, now=self.now)
        delivered = [command for command in commands if isinstance(command, cmd.Deliver)]
        wanted = isinstance(event, ev.ResultsArrived) and event.count > 0
        assert len(delivered) == wanted, f"{event} gave {delivered}"
        for command in commands:
            self._obey(command)
        self._check_nobody_waits_in_vain()
        self._check_deadlines()
        self._check_their_books()

    def _obey(self, command: cmd.Command) -> None:
        match command:
            case cmd.StartWorker(number):
                self._obey_start(number)
            case cmd.Assign():
                self._obey_assign(command)
            case cmd.Deliver(call, first, count):
                self._settle(call, range(first, first + count))
            case cmd.SettleLost(call, index):
                self._obey_settle_lost(call, index)
            case cmd.DropChunks(number, chunk):
                process = self.processes[number]
                self._check_unwanted(process, chunk)
                process.drop = max(process.drop, chunk)
                process.signalled_to_cut = True  # it is the same signal
            case cmd.CutChunks(number, chunk):
                self._obey_cut(self.processes[number], chunk)
            case cmd.FinishCall(call):
                self._obey_finish(call, None)
            case cmd.FailCall(call, reason):
                self._obey_finish(call, reason)
            case cmd.StopWorker() | cmd.TerminateWorker() | cmd.KillWorker():
                self._obey_end(command)

    def _obey_start(self, number: int) -> None:
        assert number > self.newest, "a number is used twice"
        self.newest = number
        self.processes[number] = Process(number, self.now)
        largest = max((book.cap for book in self.calls.values()), default=0)
        present = sum(self._present())
        assert present <= (self.limit or largest), f"{present} workers are too many"
        assert present <= self._demand(), f"{present} workers, {self._demand()} could be used"

    def _obey_assign(self, order: cmd.Assign) -> None:
        process, book = self.processes[order.worker], self.calls[order.call]
        items = range(order.start, order.stop)
        assert process.ready, f"worker {order.worker} is not ready"
        assert not process.told, f"worker {order.worker} was told to go"
        assert items, "an empty chunk"
        for index in items:
            assert index in book.waiting, f"item {index} of call {book.id} does not wait"
        assert book.chunksize is None or len(items) <= book.chunksize
        if book.suspects.intersection(items):
            assert len(items) == 1, f"a suspect does not go alone: {items}"
            assert order.marked, "a suspect goes unmarked"
        assert order.stop_on_failure == (book.on_failure is not OnFailure.CONTINUE)
        book.waiting.difference_update(items)
        process.held.append(Held(order.chunk, book, order.start, order.stop, self.now))
        process.jobs.append(Job(order))
        assert len(process.held) <= 2, "three chunks at a worker"
        in_order = [held.next for held in process.held]
        assert in_order == sorted(in_order), "an item waits behind a later one"
        assert {held.call.id for held in process.held} == {book.id}, "chunks of two calls"
        assert len(self._serving(book)) <= book.cap, f"call {book.id} has too many workers"

    def _obey_cut(self, process: Process, chunk: int) -> None:
        first = process.held[0]
        assert first.call.chunksize is None, "a size that the caller has fixed is cut"
        assert not process.told, "a worker that goes is told to give something back"
        assert self.now >= first.since + OVERRUN * TARGET_SECONDS, "it is cut before it is overdue"
        assert first.chunk > process.cut_to, "a chunk is cut twice"
        assert chunk == process.held[-1].chunk
        process.drop = process.cut_to = chunk
        process.signalled_to_cut = True

    def _settle(self, call: int, items: range) -> None:
        book = self.calls[call]
        for index in items:
            assert index not in book.settled, f"item {index} of call {call} is settled twice"
            assert index < book.added
            book.settled.add(index)

    def _obey_settle_lost(self, call: int, index: int) -> None:
        assert self._accused is not None, f"item {index} of call {call} is charged for nothing"
        book, accused, _ = self._accused
        assert (call, index) == (book.id, accused), f"item {index} is charged for item {accused}"
        assert index < book.stop_at, "an item that nobody wants is charged"
        self._accused = None
        book.waiting.discard(index)
        self._settle(call, range(index, index + 1))
        book.failed(index)

    def _obey_finish(self, call: int, reason: str | None) -> None:
        book = self.calls[call]
        assert not self._serving(book), f"call {call} ends while a worker holds items of it"
        assert reason == book.engine_failed
        end = min(book.added, book.stop_at)
        missing = [i for i in range(int(end)) if i not in book.settled and i not in book.withdrawn]
        assert not missing, f"call {call} ends without {missing}"
        assert book.input_ended or book.stop_at < math.inf, f"call {call} ends too early"
        del self.calls[call]
        self.ended[call] = reason or "finished"

    def _obey_end(self, command: cmd.StopWorker | cmd.TerminateWorker | cmd.KillWorker) -> None:
        process = self.processes[command.worker]
        process.told = True
        if process.asked:  # the order to start it stood in front of this one
            process.asked = False
        self._check_unwanted(process)
        match command:
            case cmd.StopWorker():
                assert not process.held
                process.stopping = True
            case cmd.TerminateWorker():
                process.signalled = True
            case cmd.KillWorker():
                process.killed = True
                process.alive = False

    # ------------------------------------------------------------------ what must be true

    def _present(self) -> list[bool]:
        return [True for process in self.processes.values() if not process.told]

    def _serving(self, book: CallBook) -> list[Process]:
        return [p for p in self.processes.values() if p.held and p.held[0].call is book]

    def _demand(self) -> int:
        total = 0
        for book in self.calls.values():
            serving = sum(not process.told for process in self._serving(book))
            total += min(book.cap, serving + -(-len(book.waiting) // (book.chunksize or 1)))
        return total

    def _check_unwanted(self, process: Process, chunk: float = math.inf) -> None:
        for held in process.held:
            nothing = held.next == held.stop
            assert held.chunk > chunk or nothing or held.next >= held.call.stop_at, (
                f"worker {process.number} is told to leave items {held.next}.. of call "
                f"{held.call.id}, which are wanted up to {held.call.stop_at}"
            )

    def _check_nobody_waits_in_vain(self) -> None:
        idle = [p for p in self.processes.values() if p.ready and not p.told and not p.held]
        room = [
            book
            for book in self.calls.values()
            if book.waiting and len(self._serving(book)) < book.cap
        ]
        assert not (idle and room), f"worker {idle[0].number} idles, call {room[0].id} waits"
        if self.failed_starts == 0:
            largest = max((book.cap for book in self.calls.values()), default=0)
            present = sum(self._present())
            assert present >= min(self._demand(), self.limit or largest), "too few are hired"

    def _check_deadlines(self) -> None:
        for number, process in self.processes.items():
            worker = self.scheduler.workers[number]
            if process.killed:
                needed = False
            elif process.told:
                needed = True
            elif not process.ready:
                needed = not process.up
            elif process.held:
                first = process.held[0]
                needed = first.next >= first.call.stop_at
                assert not needed or (worker.deadline or 0) <= self.now + GRACE
            else:
                needed = self.idle_timeout is not None
            assert (worker.deadline is not None) == needed, f"{worker}: deadline {needed=}"
            self._check_overdue(process, worker.overdue_at)

    def _check_overdue(self, process: Process, at: float | None) -> None:
        """Whoever sits on more than the item that it runs is watched, until it is cut."""
        held = process.held
        more = sum(each.stop - each.next for each in held) > 1
        if not held or held[0].call.chunksize is not None:
            assert at is None
        elif more and not process.told and held[0].chunk > process.cut_to:
            assert at is not None, f"worker {process.number} may sit on its items for ever"

    def _check_their_books(self) -> None:
        scheduler = self.scheduler
        assert set(scheduler.workers) == set(self.processes)
        assert set(scheduler.calls) == set(self.calls)
        for book in scheduler.calls.values():
            mine = self.calls[book.id]
            assert book.waiting == sum(piece.stop - piece.start for piece in book.pieces)
            assert book.waiting == len(mine.waiting), f"{book.waiting} wait, not {mine.waiting}"
            assert book.workers == {process.number for process in self._serving(mine)}
        for worker in scheduler.workers.values():
            assert (worker.state is WorkerState.LEAVING) == self.processes[worker.id].told
            if worker.state is WorkerState.IDLE:
                assert not worker.chunks
            if worker.state is WorkerState.BUSY:
                assert worker.chunks
