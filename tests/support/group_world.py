"""A pretend world for the supervisor: processes, pipes, signals and an owner, without one of them.

It has the races of the real one: commands are obeyed some time after they were given; a report is
in the pipe while SIGTERM is on its way; what a process wrote is heard before its death; a process
dies without a word, ignores SIGTERM, returns all the same, or raises in its cleanup; a start is
refused after the member was told to go.

It also keeps books of its own, made from the events and commands alone, and holds every command
against the rules in `supervision.py`: a broken rule is an `AssertionError` at the step that broke it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from parmap._core import supervision

# A start or two after it is due would be a hang: nothing here takes more steps than this.
MOST_STEPS = 2_000


@dataclass
class Process:
    """One process of a member."""

    alive: bool = True
    signalled: bool = False
    stubborn: bool = False
    done: bool = False  # its function has ended
    exitcode: int = 0
    pipe: deque = field(default_factory=deque)


@dataclass
class Book:
    """What the world knows of a member."""

    id: int
    max_restarts: int
    within: float
    delay: float
    stubborn: bool
    process: Process | None = None
    starting: bool = True  # a start was commanded and not obeyed yet
    starts: int = 1
    due: float | None = None  # to be started again then
    heard: Any = None  # the report of its present process
    final: bool = False  # that report has ended the group
    ended: bool = False  # its owner's word came before its end was decided
    stopped: bool = False  # the group's word, likewise
    owner_kills: int = 0
    owner_asked: bool = False
    kill_from: float | None = None  # the group kills it from then on
    restarts: list[float] = field(default_factory=list)
    settled: Any = None

    def has_budget(self, now: float) -> bool:
        recent = [at for at in self.restarts if at > now - self.within]
        return not self.final and len(recent) < self.max_restarts


class World:
    """Everything around one supervisor; `core` is the module to take it from (it may have faults)."""

    def __init__(self, core=supervision, *, grace: float = 5.0) -> None:
        self.core = core
        self.supervisor = core.Supervisor(grace=grace)
        self.grace = grace
        self.now = 0.0
        self.books: dict[int, Book] = {}
        self.commands: deque = deque()
        self.stopping = False
        self.closed = False

    # ------------------------------------------------------------------ what the owner does

    def add(self, max_restarts=0, within=0.0, delay=0.0, *, stubborn=False) -> None:
        book = Book(len(self.books) + 1, max_restarts, within, delay, stubborn)
        self.books[book.id] = book
        commands = self._tell(self.core.MemberAdded(book.id, max_restarts, within, delay))
        if self.stopping:
            self._expect_settled(book, "STOPPED", None, commands)
        else:
            assert commands == [self.core.Start(book.id)]
        self._check()

    def end(self, book: Book, *, kill: bool) -> None:
        gone = book.settled is not None
        waiting = book.due is not None
        if not gone:
            book.owner_asked = True
            if book.heard is None or (book.heard.failed and book.has_budget(self.now)):
                book.ended = book.ended or not book.stopped
        commands = self._tell(self.core.EndRequested(book.id, kill))
        if gone:
            assert commands == []
        elif waiting:
            self._expect_settled(book, "ENDED", None, commands)
        elif kill:
            assert commands == [self.core.Kill(book.id)]
            book.owner_kills += 1
        self._check()

    def stop(self) -> None:
        self.closed = True
        self._everybody_goes(self._tell(self.core.StopRequested()))
        self._check()

    def close(self) -> None:
        self.closed = True
        assert self._tell(self.core.Closed()) == []
        self._check()

    def wait(self, seconds: float) -> None:
        """Time passes, and the loop is told when something is due."""
        self.now += seconds
        deadline = self.supervisor.next_deadline()
        if deadline is None or deadline > self.now:
            return
        due = [book for book in self.books.values() if book.due is not None]
        commands = self._tell(self.core.DeadlinePassed())
        started = {c.member for c in commands if isinstance(c, self.core.Start)}
        assert started == {book.id for book in due if book.due <= self.now}
        for number in started:
            book = self.books[number]
            book.due, book.starting = None, True
            book.starts += 1
        self._check()

    # ------------------------------------------------------------------ what the loop does

    def obey(self, *, refuse: bool = False) -> bool:
        """Obey the oldest command; the system may refuse a start.  False: there was none."""
        if not self.commands:
            return False
        command = self.commands.popleft()
        book = self.books[command.member]
        process = book.process
        if isinstance(command, self.core.Start):
            self._start(book, refuse=refuse)
        elif isinstance(command, self.core.Terminate) and process is not None:
            process.signalled = True
        elif isinstance(command, self.core.Kill) and process is not None:
            process.alive, process.exitcode = False, -9
        return True

    def _start(self, book: Book, *, refuse: bool) -> None:
        assert book.process is None, f"member {book.id} has two processes"
        assert book.starting
        book.starting = False
        if not refuse:
            book.process = Process(stubborn=book.stubborn)
            return
        commands = self._tell(self.core.StartRefused(book.id, "no"))
        if book.ended or book.stopped:
            self._expect_settled(book, "ENDED" if book.ended else "STOPPED", None, commands)
        else:
            self._failed(book, "NOT_STARTED", None, "no", commands)
        self._check()

    def hear(self, book: Book) -> None:
        """The parent reads one message."""
        process = book.process
        if process is None or not process.pipe:
            return
        report = process.pipe.popleft()
        book.heard = report
        commands = self._tell(report)
        own = not book.ended and (not book.stopped or not report.obeying)
        if report.failed and own and not book.has_budget(self.now):
            book.final = True
            self._everybody_goes(commands)
        else:
            assert commands == [], f"{report} gave {commands}"
        self._check()

    def bury(self, book: Book) -> None:
        """The parent learns of the death, after the last words."""
        process = book.process
        if process is None or process.alive:
            return
        while process.pipe:
            self.hear(book)
        book.process = None
        report, exitcode = book.heard, process.exitcode
        commands = self._tell(self.core.Died(book.id, exitcode))
        if report is not None and not report.failed:
            self._expect_settled(book, "RETURNED", exitcode, commands, report.payload)
        elif book.ended:
            self._expect_settled(book, "ENDED", exitcode, commands)
        elif book.stopped and (report is None or report.obeying):
            self._expect_settled(book, "STOPPED", exitcode, commands)
        elif report is not None:
            self._failed(book, "RAISED", exitcode, report.payload, commands)
        else:
            self._failed(book, "LOST", exitcode, None, commands)
        self._check()

    # ------------------------------------------------------------------ what processes do

    def function_ends(self, book: Book, *, well: bool) -> None:
        """It returns, or raises by itself."""
        process = book.process
        if process is None or not process.alive or process.done:
            return
        process.done, process.exitcode = True, 0 if well else 1
        self._write(book, failed=not well)

    def crash(self, book: Book) -> None:
        """Death without a word more."""
        if book.process is not None and book.process.alive:
            book.process.alive, book.process.exitcode = False, -11

    def leave(self, book: Book) -> None:
        """The process ends, its function having ended."""
        if book.process is not None and book.process.done:
            book.process.alive = False

    def take_signal(self, book: Book, how: str) -> None:
        """SIGTERM arrives, if one was sent: it dies of it, raises in its cleanup, or returns."""
        process = book.process
        if process is None or not process.signalled or not process.alive or process.stubborn:
            return
        process.signalled = False
        if process.done or how == "dies":
            process.alive, process.exitcode = False, -15
        else:
            process.done, process.exitcode = True, int(how == "raises")
            self._write(book, failed=how == "raises", obeying=True)

    def _write(self, book: Book, *, failed: bool, obeying: bool = False) -> None:
        payload = f"report of {book.id}, start {book.starts}"
        book.process.pipe.append(
            self.core.Reported(book.id, failed=failed, payload=payload, obeying=obeying)
        )

    # ------------------------------------------------------------------ everything, to the end

    def run_to_the_end(self, *, by_stopping: bool) -> None:
        """All goes its fair way from here: the group must come to its end."""
        if by_stopping:
            self.stop()
        else:
            self.close()
        for _ in range(MOST_STEPS):
            if self.supervisor.over and not self.commands:
                break
            if not self._step():
                deadline = self.supervisor.next_deadline()
                assert deadline is not None, "a hang: nothing moves and nothing is due"
                self.wait(max(0.0, deadline - self.now))
        assert self.supervisor.over, "no end in sight"
        assert all(book.settled is not None for book in self.books.values())
        assert all(book.process is None for book in self.books.values())

    def _step(self) -> bool:
        moved = self.obey()
        for book in list(self.books.values()):
            process = book.process
            if process is None:
                continue
            if not process.alive:
                self.bury(book)
            elif process.pipe:
                self.hear(book)
            elif process.signalled and not process.stubborn:
                self.take_signal(book, "dies")
            elif process.done and not process.stubborn:
                self.leave(book)
            elif not process.done and not self.stopping and not book.owner_asked:
                self.function_ends(book, well=True)
                process.stubborn = False
            elif process.stubborn and not self.stopping:
                process.stubborn = False  # in the end it takes notice
            else:
                continue
            moved = True
        return moved

    # ------------------------------------------------------------------ the rules

    def _tell(self, event) -> list:
        commands = self.supervisor.handle(event, now=self.now)
        for command in commands:
            self._check_command(command)
        self.commands += [
            c for c in commands if not isinstance(c, self.core.Settle | self.core.Restarting)
        ]
        return commands

    def _check_command(self, command) -> None:
        book = self.books[command.member]
        assert book.settled is None, f"{command} for a member that has ended"
        match type(command).__name__:
            case "Settle":
                assert command.attempts == book.starts
                assert book.process is None
                book.settled = command
            case "Restarting":
                assert not self.stopping
                assert book.has_budget(self.now), f"member {book.id} is started too often"
            case "Start":
                assert not self.stopping
                assert book.process is None
            case "Kill":
                by_group = book.kill_from is not None and book.kill_from <= self.now
                assert by_group or book.owner_asked, f"{command} comes too early"
                if by_group:
                    book.kill_from = None

    def _expect_settled(self, book, end: str, exitcode, commands, payload=None) -> None:
        wanted = self.core.Settle(book.id, self.core.End[end], exitcode, payload, book.starts)
        assert commands[:1] == [wanted], f"{commands[:1]} instead of {wanted}"
        assert len(commands) == 1
        book.due = book.kill_from = None

    def _failed(self, book, end: str, exitcode, payload, commands) -> None:
        """Its failure: it is started again, or settled, and then everybody goes."""
        if not book.has_budget(self.now):
            self._expect_settled(book, end, exitcode, commands[:1], payload)
            self._everybody_goes(commands[1:])
        elif self.stopping:
            self._expect_settled(book, "STOPPED", exitcode, commands)
        else:
            wanted = self.core.Restarting(
                book.id, self.core.End[end], exitcode, payload, book.delay
            )
            assert commands == [wanted]
            book.restarts.append(self.now)
            book.due, book.heard = self.now + book.delay, None

    def _everybody_goes(self, commands) -> None:
        """The group stops: each member is told in just the way that its state asks for."""
        if self.stopping:
            assert commands == [], f"{commands} once more"
            return
        self.stopping = True
        wanted = []
        for book in self.books.values():
            if book.due is not None:
                end = self.core.End.STOPPED
                wanted.append(self.core.Settle(book.id, end, None, None, book.starts))
                book.due = None
            elif book.settled is None:
                book.kill_from = self.now + self.grace
                if book.heard is None and not book.owner_asked:
                    book.stopped = True
                    wanted.append(self.core.Terminate(book.id))
        assert commands == wanted, f"{commands} instead of {wanted}"

    def _check(self) -> None:
        """What must be true after each event."""
        left = [book for book in self.books.values() if book.settled is None]
        assert self.supervisor.over == (self.closed and not left)
        deadline = self.supervisor.next_deadline()
        due = [book.due for book in left if book.due is not None]
        due += [
            book.kill_from for book in left if book.kill_from is not None and not book.owner_kills
        ]
        if due:
            assert deadline is not None, "nobody will look"
            assert deadline <= min(due), "it is looked at too late"
        else:
            late = [book for book in left if book.kill_from is not None]
            assert deadline is None or late, "for nothing"
