"""The decisions of a worker group: who is stopped when one fails, who is started again, when it ends.

Rules that everything here keeps:

1. A member ends once, as exactly one of: returned, failed, stopped by the group, ended by its owner.
   What it has reported counts, whatever anybody wanted of it afterwards.
2. The first failure stops the others: SIGTERM, and SIGKILL when the grace period is over.  Members
   that were stopped are no failures; one that failed by itself before the signal reached it is.
3. A member with a restart budget fails only when that is spent.
4. The group is over only when none of its processes is left, and no more members can come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from parmap.errors import InternalError


class End(Enum):
    """How a member ended."""

    RETURNED = "returned"
    RAISED = "raised"  # its function raised, or could not be rebuilt
    LOST = "lost"  # its process died before the function was done
    NOT_STARTED = "not started"  # the system refused to start its process
    STOPPED = "stopped"  # by the group: another one failed, or the block did
    ENDED = "ended"  # by its owner: terminate() or kill()


FAILURES = frozenset({End.RAISED, End.LOST, End.NOT_STARTED})


# ---------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class MemberAdded:
    """The owner wants a member to run; it may be started again so often within so many seconds."""

    member: int
    max_restarts: int = 0
    within: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Reported:
    """The member's function has returned or raised; its process is about to leave.

    `obeying`: it raised because SIGTERM told it to go, say in a `finally` block.
    """

    member: int
    failed: bool
    payload: object = None
    obeying: bool = False


@dataclass(frozen=True, slots=True)
class Died:
    """The member's process is gone, and all that it had said has been heard."""

    member: int
    exitcode: int | None


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The system refused to start the member's process."""

    member: int
    reason: str


@dataclass(frozen=True, slots=True)
class EndRequested:
    """The owner ends a member: its end is then no failure."""

    member: int
    kill: bool


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The block failed, or was interrupted: everybody shall go.  No more members come."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The block has ended well: no more members come; those that are there finish."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The instant that `next_deadline` named has come."""


Event = (
    MemberAdded
    | Reported
    | Died
    | StartRefused
    | EndRequested
    | StopRequested
    | Closed
    | DeadlinePassed
)


# ---------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Start:
    """Start the member's process (again)."""

    member: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Interrupt the member (SIGTERM: its `finally` blocks run)."""

    member: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the member's process at once (SIGKILL)."""

    member: int


@dataclass(frozen=True, slots=True)
class Settle:
    """The member has ended; tell who waits for it."""

    member: int
    end: End
    exitcode: int | None
    payload: object
    attempts: int


@dataclass(frozen=True, slots=True)
class Restarting:
    """The member failed in this way and will be started again: tell the log."""

    member: int
    end: End
    exitcode: int | None
    payload: object
    delay: float


Command = Start | Terminate | Kill | Settle | Restarting


# ---------------------------------------------------------------------- the books


class State(Enum):
    """Where a member is in its life."""

    RUNNING = "running"  # its process was asked for, and is not known to be dead
    LEAVING = "leaving"  # told to go
    WAITING = "waiting"  # dead, to be started again at its deadline
    GONE = "gone"


@dataclass(slots=True)
class Member:
    """One member.  Owned by the supervisor."""

    id: int
    max_restarts: int
    within: float
    delay: float
    state: State = State.RUNNING
    report: Reported | None = None
    final: bool = False  # its report ended the group: no budget that comes back changes that
    told: End | None = None  # STOPPED or ENDED, once it was told to go
    deadline: float | None = None
    attempts: int = 1
    restarts: deque[float] = field(default_factory=deque)  # when, within the last `within` seconds

    def has_budget(self, now: float) -> bool:
        """Whether it may be started once more."""
        while self.restarts and self.restarts[0] <= now - self.within:
            self.restarts.popleft()
        return not self.final and len(self.restarts) < self.max_restarts


class Supervisor:
    """The one owner of the members' state."""

    def __init__(self, *, grace: float) -> None:
        """Members that are stopped get `grace` seconds between SIGTERM and SIGKILL."""
        self._grace = grace
        self._members: dict[int, Member] = {}
        self._stopping = False  # a failure, or the block's end by an exception
        self._closed = False
        self._out: list[Command] = []
        self._now = 0.0

    def handle(self, event: Event, *, now: float) -> list[Command]:
        """Take one event in; give the commands out, in the order in which to obey them."""
        self._now, self._out = now, []
        match event:
            case MemberAdded():
                self._add(event)
            case Reported(member):
                self._reported(self._known(member), event)
            case Died(member, exitcode):
                self._died(self._known(member), exitcode)
            case StartRefused(member, reason):
                self._refused(self._known(member), reason)
            case EndRequested(member, kill):
                self._end(self._members.get(member), kill=kill)
            case StopRequested():
                self._closed = True
                self._stop()
            case Closed():
                self._closed = True
            case DeadlinePassed():
                self._deadline_passed()
            case _:
                assert_never(event)
        return self._out

    def next_deadline(self) -> float | None:
        """The instant at which `DeadlinePassed` is due, or None."""
        return min(
            (m.deadline for m in self._members.values() if m.deadline is not None), default=None
        )

    @property
    def over(self) -> bool:
        """No process is left and no member can come."""
        return self._closed and not self._members

    def _add(self, event: MemberAdded) -> None:
        member = Member(event.member, event.max_restarts, event.within, event.delay)
        self._members[member.id] = member
        if self._stopping:
            self._settle(member, End.STOPPED, None, None)
        else:
            self._out.append(Start(member.id))

    def _reported(self, member: Member, report: Reported) -> None:
        member.report = report
        if report.failed and self._is_failure(member) and not member.has_budget(self._now):
            member.final = True
            self._stop()  # at once: its process may take a while to leave

    def _died(self, member: Member, exitcode: int | None) -> None:
        report = member.report
        if report is not None and not report.failed:
            self._settle(member, End.RETURNED, exitcode, report.payload)
        elif not self._is_failure(member):
            assert member.told is not None
            self._settle(member, member.told, exitcode, None)
        elif report is not None:
            self._fail(member, End.RAISED, exitcode, report.payload)
        else:
            self._fail(member, End.LOST, exitcode, None)

    def _refused(self, member: Member, reason: str) -> None:
        if member.told is not None:  # meanwhile nobody wants it any more
            self._settle(member, member.told, None, None)
        else:
            self._fail(member, End.NOT_STARTED, None, reason)

    def _is_failure(self, member: Member) -> bool:
        """Whether not to have returned is its failure, and not what it was told."""
        if member.told is not End.STOPPED:
            return member.told is None
        return member.report is not None and not member.report.obeying

    def _fail(self, member: Member, end: End, exitcode: int | None, payload: object) -> None:
        if not member.has_budget(self._now):
            self._settle(member, end, exitcode, payload)
            self._stop()
        elif self._stopping:  # it would have been started again: what keeps it from it is the group
            self._settle(member, End.STOPPED, exitcode, None)
        else:
            member.restarts.append(self._now)
            member.state, member.report = State.WAITING, None
            member.deadline = self._now + member.delay
            self._out.append(Restarting(member.id, end, exitcode, payload, member.delay))

    def _stop(self) -> None:
        """Tell everybody to go who is still here and has not been told."""
        if self._stopping:
            return
        self._stopping = True
        for member in list(self._members.values()):
            if member.state is State.WAITING:
                self._settle(member, End.STOPPED, None, None)
            elif member.state is State.RUNNING and member.report is None:
                member.told, member.state = End.STOPPED, State.LEAVING
                member.deadline = self._now + self._grace
                self._out.append(Terminate(member.id))
            else:  # it is on its way out, by itself or by its owner's word
                member.deadline = self._now + self._grace

    def _end(self, member: Member | None, *, kill: bool) -> None:
        if member is None:
            return  # it is gone already
        if member.state is State.WAITING:
            self._settle(member, End.ENDED, None, None)
        elif kill:
            self._mark_ended(member)
            member.deadline = None
            self._out.append(Kill(member.id))
        elif member.state is State.RUNNING:
            # The owner asked for SIGTERM and nothing more: no SIGKILL follows by itself.
            self._mark_ended(member)
            self._out.append(Terminate(member.id))

    def _mark_ended(self, member: Member) -> None:
        member.state = State.LEAVING
        if member.report is None or (member.report.failed and member.has_budget(self._now)):
            member.told = member.told or End.ENDED  # else how it ends was decided before

    def _deadline_passed(self) -> None:
        for member in list(self._members.values()):
            if member.deadline is None or member.deadline > self._now:
                continue
            member.deadline = None
            if member.state is State.WAITING:
                member.state, member.attempts = State.RUNNING, member.attempts + 1
                self._out.append(Start(member.id))
            else:
                self._out.append(Kill(member.id))

    def _settle(self, member: Member, end: End, exitcode: int | None, payload: object) -> None:
        member.state = State.GONE
        del self._members[member.id]
        self._out.append(Settle(member.id, end, exitcode, payload, member.attempts))

    def _known(self, member: int) -> Member:
        found = self._members.get(member)
        if found is None:
            raise InternalError(f"member {member} is not known")
        return found
