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
from parmap._core.commands import Loss
from parmap._core.deadlines import BEGIN_WITHIN
from parmap._core.events import IDLE, UNKNOWN, OnFailure
from parmap._core.retry import ONCE, RetryPolicy
from parmap._core.scheduler import START_BUDGET, Scheduler
from parmap._core.states import WorkerState
from parmap._core.workers import START_TIMEOUT, Worker


class Fate(Enum):
    """What becomes of an item once it is run."""

    FINE = "fine"
    FAILS = "fails"
    RAISES = "raises"  # what its call retries
    FLAKY = "flaky"  # the same, the first time only
    POISON = "poison"  # it ends its process
    FRAIL = "frail"  # the same, the first time only
    SLOW = (
        "slow"  # it ends at SIGTERM, and seldom by itself; between its instructions it is in Python
    )
    STUBBORN = "stubborn"  # it ends at SIGKILL, and seldom by itself; it is in C


ONCE_ONLY = {Fate.FLAKY, Fate.FRAIL}
ENDLESS = {Fate.SLOW, Fate.STUBBORN}
EPSILON = 1e-9  # what additions of seconds may lose

_OF_CALLERS = (
    ev.ItemsAdded, ev.InputEnded, ev.ItemCancelled, ev.CallCancelled, ev.WaitingDropped, ev.TaskKilled,
)  # fmt: skip


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
    task_timeout: float | None = None
    retry: RetryPolicy = ONCE
    added: int = 0
    input_ended: bool = False
    all_fed: bool = False  # its caller says so
    stop_at: float = math.inf
    waiting: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)
    begun: dict[int, int] = field(default_factory=dict)  # item -> the worker that began it last
    suspects: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)  # item -> runs that came to nothing
    resting: dict[int, float] = field(default_factory=dict)  # item -> when it may run again
    ran: dict[int, tuple[float, float]] = field(default_factory=dict)  # item -> its last run
    served: bool = False  # a worker had it
    free_deaths: int = 0
    engine_failed: str | None = None

    def fate(self, index: int) -> Fate:
        fate = self.fates[index] if index < len(self.fates) else Fate.FINE
        return Fate.FINE if fate in ONCE_ONLY and self.attempts.get(index) else fate

    def stop(self, index: int) -> None:
        self.stop_at = min(self.stop_at, index)
        self.resting = {i: due for i, due in self.resting.items() if i < self.stop_at}
        self.waiting = {i for i in self.waiting if i < self.stop_at}

    def failed(self, index: int) -> None:
        if self.on_failure is not OnFailure.CONTINUE:
            self.stop(index if self.on_failure is OnFailure.FINISH_EARLIER else 0)

    def charge(self, index: int, now: float, *, retried: bool, raised: bool = False) -> bool:
        """One more run of it came to nothing; True if it is to be run again."""
        # What ends a worker and was suspected of that before has done it then, too.
        before = int(index in self.suspects and self.retry.attempts > 1 and not raised)
        failed = self.attempts[index] = self.attempts.get(index, before) + 1
        self.begun.pop(index, None)
        if not retried or failed >= self.retry.attempts:
            return False
        self.resting[index] = now + self.retry.delay(failed)
        self.waiting.discard(index)
        return True

    def wait_again(self, start: int, stop: int) -> None:
        self.waiting |= {i for i in range(start, stop) if i < self.stop_at}


@dataclass
class Held:
    """A chunk at a worker, as the parent knows it: what is in the pipe has not happened yet."""

    chunk: int
    call: CallBook
    next: int
    stop: int
    marked: bool
    start: int
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
    began: float = 0.0  # the item that it is in, or was in last
    question: bool = False  # asked which item it is in,
    answer: int | None = None  # and what it said
    jobs: deque[Job] = field(default_factory=deque)
    pipe: deque[ev.Event] = field(default_factory=deque)
    # What the parent knows:
    heard: float = 0.0  # when, or when it got its first chunk
    up: bool = False
    ready: bool = False
    told: bool = False
    killed: bool = False
    late: int | None = None  # what it was ended for
    disowned: bool = False  # its task's owner has ended it
    tasks: int = 0  # items that it was given, and did not give back
    bloated: bool = False
    heard_bloated: bool = False
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

    def __init__(
        self,
        *,
        limit: int | None = None,
        idle_timeout: float | None = None,
        max_tasks: int | None = None,
    ) -> None:
        self.scheduler = Scheduler(limit=limit, idle_timeout=idle_timeout, max_tasks=max_tasks)
        self.limit = limit
        self.idle_timeout = idle_timeout
        self.max_tasks = max_tasks
        self.now = 0.0
        self.calls: dict[int, CallBook] = {}
        self.processes: dict[int, Process] = {}
        self.opened = 0
        self.newest = 0
        self.failed_starts = 0
        self.closing = False
        self.ended: dict[int, str] = {}
        self._commands: deque[cmd.Command] = deque()  # being obeyed, the first one now
        self._delivery = False  # whether the report that is being told is for its caller
        self._accused: tuple[CallBook, int, Loss] | None = None  # whom a death must be charged to

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
        task_timeout: float | None = None,
        retry: RetryPolicy = ONCE,
    ) -> int:
        self.opened += 1
        book = CallBook(
            self.opened, cap, chunksize, on_failure, fates, cost, cursed, self.newest,
            task_timeout, retry,
        )  # fmt: skip
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
        self.tell(
            ev.CallOpened(book.id, cap, chunksize, on_failure, task_timeout, retry, items, name)
        )
        return book.id

    def feed(self, call: int, count: int, skipped: int = 0) -> None:
        if (book := self.calls.get(call)) is not None:
            first = book.added + skipped
            book.withdrawn.update(range(book.added, first))  # a checkpoint has them
            book.wait_again(first, first + count)
            book.added = first + count
        self.tell(ev.ItemsAdded(call, count, skipped))

    def end_input(self, call: int) -> None:
        if (book := self.calls.get(call)) is not None:
            book.input_ended = book.all_fed = True
        self.tell(ev.InputEnded(call))

    def cancel_item(self, call: int, index: int) -> None:
        book = self.calls.get(call)
        if book is not None and (index in book.waiting or index in book.resting):
            book.waiting.discard(index)
            book.resting.pop(index, None)
            book.withdrawn.add(index)
        self.tell(ev.ItemCancelled(call, index))

    def cancel_call(self, call: int, *, hurry: bool) -> None:
        if (book := self.calls.get(call)) is not None:
            book.stop(0)
        self.tell(ev.CallCancelled(call, hurry))

    def drop_waiting(self, call: int) -> None:
        if (book := self.calls.get(call)) is not None:
            book.withdrawn |= book.waiting | set(book.resting)
            book.waiting.clear()
            book.resting.clear()
            book.input_ended = book.all_fed = True
        self.tell(ev.WaitingDropped(call))

    def kill_task(self, call: int) -> None:
        """The owner of a call of one item ends it."""
        book = self.calls.get(call)
        if book is None:
            self.tell(ev.TaskKilled(call))
            return
        # Not those who have reported all: what is still to come is the end of the chunk, not the item.
        serving = [p for p in self._serving(book) if p.held[0].next < p.held[0].stop]
        if not serving and book.served and (book.waiting or book.resting):
            self._accused = (book, 0, Loss.KILLED)
            book.withdrawn.discard(0)
        for process in serving:
            process.disowned = True
        self.tell(ev.TaskKilled(call))
        assert all(process.told for process in serving)
        assert self._accused is None, "a task that was ended between two attempts goes on"

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
            for book in self.calls.values():
                over = [index for index, due in book.resting.items() if due <= self.now]
                for index in over:
                    del book.resting[index]
                    book.waiting.add(index)
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
        self.reply(process)
        if not process.jobs:
            process.alive = not process.stopping
            return process.stopping
        return self._work_on(process, process.jobs[0])

    def reply(self, process: Process) -> None:
        """It is in Python: it can say which item it is in, if it was asked."""
        if process.question and process.runs and process.jobs and not self._in_c(process):
            job = process.jobs[0]
            if job.begun and job.index < job.order.stop:
                process.answer = job.index

    def come_to_an_end(self, process: Process) -> None:
        """What takes so long is done, after all."""
        if process.runs and process.jobs and process.jobs[0].inside:
            self._leave_item(process, process.jobs[0])

    def bloat(self, process: Process) -> None:
        """It uses more memory than it may, and will say so."""
        process.bloated = True

    def report(self, process: Process, *, last: bool = False, retried: bool = False) -> None:
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
                retried=retried,
                last=last,
                bloated=process.bloated,
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
            call, index, why = self._accused
            raise AssertionError(f"item {index} of call {call.id} is not charged: {why}")

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
                assert self._fate(process) in ENDLESS
                assert self.calls[call].task_timeout is None
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
        return self._in_c(process)

    def _in_c(self, process: Process) -> bool:
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
        book.ran[job.index] = (self.now, math.inf)
        job.inside = True
        process.began = self.now
        if job.order.marked:
            process.control = job.index

    def _inside(self, process: Process, job: Job) -> bool:
        fate = self._fate(process)
        if fate in ENDLESS:
            return self.hear_the_cut(process)
        if fate in (Fate.POISON, Fate.FRAIL):
            process.alive = False
            return True
        if fate in (Fate.RAISES, Fate.FLAKY):
            job.inside = False
            self.report(process)  # what is retried is reported alone
            job.failed.append(job.index)
            self._leave_item(process, job)
            self.report(process, retried=True)
            job.failed.clear()  # whether that ends the call the parent decides
            return True
        if fate is Fate.FAILS:
            job.failed.append(job.index)
        self._leave_item(process, job)
        return True

    def _leave_item(self, process: Process, job: Job) -> None:
        book = self.calls[job.order.call]
        book.ran[job.index] = (book.ran[job.index][0], self.now)
        job.ran += 1
        job.inside = False

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
            process.tasks -= max(0, held.stop - stop)
            held.stop = min(held.stop, stop)

    def _hear_results(self, process: Process, event: ev.ResultsArrived) -> None:
        held = process.held[0]
        book = held.call
        held.next += event.count
        process.heard = self.now
        process.heard_bloated |= event.bloated
        book.free_deaths = 0
        again = False
        if event.retried and not process.disowned and event.first < book.stop_at:
            again = book.charge(event.first, self.now, retried=True, raised=True)
        self._delivery = event.count > 0 and not again
        if event.last:
            process.held.popleft()
            book.wait_again(held.next, held.stop)
            if process.held:
                process.held[0].since = self.now
            process.tasks -= held.stop - held.next
        if event.failed and not again:
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
        if process.late is not None or process.disowned:
            self._accuse_for_our_own_deed(process, first)
        elif first.next <= running < first.stop:
            self._charge(book, running, Loss.DIED)
        elif running == UNKNOWN and left == 1:
            self._charge(book, first.next, Loss.DIED)
        elif running == UNKNOWN:
            book.suspects.update(range(first.next, first.stop))
        elif left and process.number > book.newest:
            book.free_deaths += 1
            if book.free_deaths > max(FREE_DEATHS, 2 * book.cap):
                self._charge(book, first.next, Loss.DIED)

    def _accuse_for_our_own_deed(self, process: Process, first: Held) -> None:
        """It was ended for one item: that is charged, if it had not come to its end."""
        book = first.call
        if process.disowned:
            if first.start == first.next < first.stop:
                self._charge(book, first.start, Loss.KILLED)
        elif process.late == UNKNOWN:
            book.suspects.update(range(first.next, first.stop))
        elif first.next <= process.late < first.stop:
            self._charge(book, process.late, Loss.LATE)

    def _charge(self, book: CallBook, index: int, why: Loss) -> None:
        """This death costs the item an attempt; if that was its last, its caller must be told."""
        policy = book.retry
        retried = {Loss.DIED: policy.lost, Loss.LATE: policy.late, Loss.KILLED: False}[why]
        if index < book.stop_at and not book.charge(index, self.now, retried=retried):
            self._accused = (book, index, why)

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
        if isinstance(event, _OF_CALLERS) and event.call not in self.calls:
            assert commands == [cmd.FinishCall(event.call)]  # which nobody awaits any more
            return
        delivered = [command for command in commands if isinstance(command, cmd.Deliver)]
        wanted = isinstance(event, ev.ResultsArrived) and self._delivery
        assert len(delivered) == wanted, f"{event} gave {delivered}"
        answering = bool(self._commands)
        self._commands += commands
        if answering:
            return  # what was commanded before comes first, and then this
        while self._commands:
            self._obey(self._commands[0])
            self._commands.popleft()
        self._check_nobody_waits_in_vain()
        self._check_deadlines()
        self._check_their_books()

    def _obey(self, command: cmd.Command) -> None:
        match command:
            case cmd.StartWorker(number):
                self._obey_start(number)
            case cmd.Assign():
                self._obey_assign(command)
            case cmd.Deliver(call, first, count, _, attempt):
                failed = self.calls[call].attempts.get(first, 0)
                assert attempt in (failed, failed + 1), f"attempt {attempt} of item {first}"
                self._settle(call, range(first, first + count))
            case cmd.SettleLost():
                self._obey_settle_lost(command)
            case cmd.LookAt(number):
                self._obey_look(self.processes[number])
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
            case cmd.StopWorker() | cmd.TerminateWorker() | cmd.KillWorker() | cmd.EndLateWorker():
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
        if book.suspects.intersection(items) or book.attempts.keys() & items:
            assert len(items) == 1, f"a suspect does not go alone: {items}"
            assert order.marked, "a suspect goes unmarked"
        assert order.attempt == book.attempts.get(order.start, 0) + 1, f"{order}"
        book.served = True
        assert order.stop_on_failure == (book.on_failure is not OnFailure.CONTINUE)
        book.waiting.difference_update(items)
        process.held.append(
            Held(order.chunk, book, order.start, order.stop, order.marked, order.start, self.now)
        )
        if len(process.held) == 1:
            process.heard = self.now
        process.tasks += len(items)
        assert self.max_tasks is None or process.tasks <= self.max_tasks, "too many tasks"
        process.jobs.append(Job(order))
        assert len(process.held) <= 2, "three chunks at a worker"
        in_order = [held.next for held in process.held]
        assert in_order == sorted(in_order), "an item waits behind a later one"
        assert {held.call.id for held in process.held} == {book.id}, "chunks of two calls"
        assert len(self._serving(book)) <= book.cap, f"call {book.id} has too many workers"

    def _obey_cut(self, process: Process, chunk: int) -> None:
        first = process.held[0]
        alone = first.stop - first.next <= 1
        assert first.call.chunksize is None or alone, "a size that the caller has fixed is cut"
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

    def _obey_settle_lost(self, command: cmd.SettleLost) -> None:
        call, index = command.call, command.index
        assert self._accused is not None, f"item {index} of call {call} is charged for nothing"
        book, accused, why = self._accused
        assert (call, index) == (book.id, accused), f"item {index} is charged for item {accused}"
        assert index < book.stop_at, "an item that nobody wants is charged"
        assert (command.why, command.attempts) == (why, book.attempts.get(index, 0)), command
        self._accused = None
        book.waiting.discard(index)
        book.resting.pop(index, None)
        self._settle(call, range(index, index + 1))
        book.failed(index)

    def _obey_look(self, process: Process) -> None:
        """Read the page; if that does not tell, take the answer to the last question and ask anew."""
        running, began = process.control, process.began if process.control >= 0 else None
        if running == UNKNOWN:
            if process.question and process.answer is not None:
                running, process.answer = process.answer, None
            process.question = True
        self.tell(ev.Looked(process.number, running, began))

    def _check_lateness(self, process: Process) -> None:
        """Whoever is ended for an item has an item whose time is over."""
        if not process.alive:  # which nobody has noticed yet
            process.late = self.scheduler.workers[process.number].late
            return
        first = process.held[0]
        assert first.call.task_timeout is not None
        limit = first.call.task_timeout - EPSILON
        overdue = [
            index
            for index, (began, ended) in first.call.ran.items()
            if first.next <= index < first.stop
            and index in first.call.begun
            and (self.now if index == process.control else min(ended, self.now)) - began >= limit
        ]
        if not overdue and process.between_items:
            # It is as long at what it does with a result, or on the way to the next item.
            assert self.now - process.heard >= limit
            overdue = [process.jobs[0].index - (process.jobs[0].index == first.stop)]
        assert overdue, f"worker {process.number} is ended, and none of its items is late"
        left = first.stop - first.next
        known = self.scheduler.workers[process.number].late != UNKNOWN
        assert known or (left > 1 and process.control == UNKNOWN), "it could be known which"
        process.late = overdue[0] if known else UNKNOWN

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

    def _obey_end(
        self,
        command: cmd.StopWorker | cmd.TerminateWorker | cmd.KillWorker | cmd.EndLateWorker,
    ) -> None:
        process = self.processes[command.worker]
        process.told = True
        if process.asked:  # the order to start it stood in front of this one
            process.asked = False
        if isinstance(command, cmd.EndLateWorker):
            self._check_lateness(process)
        elif not (process.disowned or process.late is not None or self._never_began(process)):
            self._check_unwanted(process)
        match command:
            case cmd.EndLateWorker():
                process.signalled = True
            case cmd.StopWorker():
                assert not process.held
                process.stopping = True
            case cmd.TerminateWorker():
                process.signalled = True
            case cmd.KillWorker():
                process.killed = True
                process.alive = False

    def _never_began(self, process: Process) -> bool:
        """It has held a chunk for so long that it must be broken."""
        timed = bool(process.held) and process.held[0].call.task_timeout is not None
        return timed and process.control == IDLE and self.now - process.heard >= BEGIN_WITHIN - 1e-6

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
            self._check_limits(process, worker)
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
        if not held:
            assert at is None
        elif held[0].call.chunksize not in (None, 1):
            assert at is None or held[0].stop - held[0].next <= 1
        elif more and not process.told and held[0].chunk > process.cut_to:
            assert at is not None, f"worker {process.number} may sit on its items for ever"

    def _check_limits(self, process: Process, worker: Worker) -> None:
        """Nobody takes longer than it may, without somebody looking; nobody rests too long."""
        due = self.scheduler.next_deadline()
        for book in self.calls.values():
            for rest in book.resting.values():
                assert due is not None
                assert due <= rest
        if process.told or not process.ready:
            return
        if not process.held:
            old = process.heard_bloated or process.tasks == self.max_tasks
            assert not old, f"worker {process.number} goes on"
            return
        first = process.held[0]
        if first.call.task_timeout is not None and first.next < first.call.stop_at:
            assert worker.clock is not None
            assert due is not None
            assert due <= self.now + first.call.task_timeout + EPSILON

    def _check_their_books(self) -> None:
        scheduler = self.scheduler
        assert set(scheduler.workers) == set(self.processes)
        assert set(scheduler.calls) == set(self.calls)
        for book in scheduler.calls.values():
            mine = self.calls[book.id]
            assert book.waiting == sum(piece.stop - piece.start for piece in book.pieces)
            assert book.waiting == len(mine.waiting), f"{book.waiting} wait, not {mine.waiting}"
            assert book.resting.keys() == mine.resting.keys()
            assert book.workers == {process.number for process in self._serving(mine)}
        for worker in scheduler.workers.values():
            assert (worker.state is WorkerState.LEAVING) == self.processes[worker.id].told
            if worker.state is WorkerState.IDLE:
                assert not worker.chunks
            if worker.state is WorkerState.BUSY:
                assert worker.chunks
