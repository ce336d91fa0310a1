"""The decisions of a worker group, event by event: what is told, and exactly what is commanded."""

from __future__ import annotations

import pytest

from parmap._core.supervision import (
    FAILURES,
    Closed,
    DeadlinePassed,
    Died,
    End,
    EndRequested,
    Kill,
    MemberAdded,
    Reported,
    Restarting,
    Settle,
    Start,
    StartRefused,
    StopRequested,
    Supervisor,
    Terminate,
)
from parmap.errors import InternalError

GRACE = 5.0


class Desk:
    """A supervisor and a clock."""

    def __init__(self, members: int = 0, **budget) -> None:
        self.core = Supervisor(grace=GRACE)
        self.now = 100.0
        for member in range(1, members + 1):
            self.tell(MemberAdded(member, **budget))

    def tell(self, *events):
        commands = []
        for event in events:
            commands += self.core.handle(event, now=self.now)
        return commands

    def later(self, seconds):
        """Time passes; what is due is told."""
        self.now += seconds
        deadline = self.core.next_deadline()
        if deadline is None or deadline > self.now:
            return []
        return self.tell(DeadlinePassed())


def settled(member, end, exitcode=None, payload=None, attempts=1):
    return Settle(member, end, exitcode, payload, attempts)


def returns(member, payload="value"):
    return Reported(member, failed=False, payload=payload)


def raises(member, payload="error"):
    return Reported(member, failed=True, payload=payload)


def raises_while_it_goes(member):
    return Reported(member, failed=True, payload="error", obeying=True)


# ---------------------------------------------------------------------- a life that goes well


def test_a_member_is_started_heard_and_settled_when_its_process_is_gone():
    desk = Desk()

    assert desk.tell(MemberAdded(1)) == [Start(1)]
    assert desk.tell(returns(1)) == []
    assert desk.tell(Died(1, 0)) == [settled(1, End.RETURNED, 0, "value")]
    assert not desk.core.over


def test_the_group_is_over_when_it_is_closed_and_nobody_is_left():
    desk = Desk(2)
    desk.tell(Closed(), returns(1), Died(1, 0), returns(2))
    assert not desk.core.over

    desk.tell(Died(2, 0))

    assert desk.core.over


def test_a_group_without_members_is_over_at_its_close():
    desk = Desk()
    assert not desk.core.over

    assert desk.tell(Closed()) == []
    assert desk.core.over


def test_a_member_that_comes_while_the_block_waits_runs_as_any_other():
    """Another thread may start one while the block waits for the rest."""
    desk = Desk(1)
    desk.tell(Closed())

    assert desk.tell(MemberAdded(2)) == [Start(2)]
    desk.tell(returns(1), Died(1, 0))
    assert not desk.core.over


@pytest.mark.parametrize("exitcode", [0, 3, -9, None])
def test_what_was_reported_counts_however_the_process_leaves(exitcode):
    desk = Desk(1)

    assert desk.tell(returns(1), Died(1, exitcode)) == [settled(1, End.RETURNED, exitcode, "value")]


def test_nothing_is_due_while_all_goes_well():
    desk = Desk(2)
    desk.tell(returns(1))

    assert desk.core.next_deadline() is None


@pytest.mark.parametrize("event", [returns(7), Died(7, 0), StartRefused(7, "")])
def test_an_event_of_a_member_that_nobody_knows_is_our_bug(event):
    with pytest.raises(InternalError, match="member 7"):
        Desk().tell(event)


# ---------------------------------------------------------------------- rule 2: the first failure


def test_a_report_of_failure_stops_the_others_before_its_process_is_gone():
    desk = Desk(3)

    assert desk.tell(raises(2)) == [Terminate(1), Terminate(3)]
    assert desk.tell(Died(2, 1)) == [settled(2, End.RAISED, 1, "error")]


def test_a_death_without_a_report_stops_the_others():
    desk = Desk(2)

    assert desk.tell(Died(1, -11)) == [settled(1, End.LOST, -11), Terminate(2)]


def test_a_refused_start_stops_the_others():
    desk = Desk(2)

    assert desk.tell(StartRefused(2, "no memory")) == [
        settled(2, End.NOT_STARTED, None, "no memory"),
        Terminate(1),
    ]


def test_a_stopped_member_is_no_failure_however_it_dies():
    desk = Desk(3)
    desk.tell(raises(1), Died(1, 1))

    assert desk.tell(Died(2, -15), Died(3, 7)) == [
        settled(2, End.STOPPED, -15),
        settled(3, End.STOPPED, 7),
    ]


def test_what_a_stopped_member_raises_in_its_cleanup_is_no_failure():
    desk = Desk(2)
    desk.tell(raises(1))

    assert desk.tell(raises_while_it_goes(2), Died(2, 1)) == [settled(2, End.STOPPED, 1)]


def test_a_member_that_failed_by_itself_as_the_signal_was_on_its_way_is_a_failure():
    """Two fail at the same time: both are told of."""
    desk = Desk(2)
    assert desk.tell(raises(1, "first")) == [Terminate(2)]

    assert desk.tell(raises(2, "second"), Died(2, 1), Died(1, 1)) == [
        settled(2, End.RAISED, 1, "second"),
        settled(1, End.RAISED, 1, "first"),
    ]


def test_a_member_that_returns_although_it_was_told_to_go_has_returned():
    desk = Desk(2)
    desk.tell(raises(1))

    assert desk.tell(returns(2), Died(2, 0)) == [settled(2, End.RETURNED, 0, "value")]


def test_who_does_not_go_within_the_grace_period_is_killed_once():
    desk = Desk(2)
    desk.tell(raises(1), Died(1, 1))
    assert desk.core.next_deadline() == desk.now + GRACE

    assert desk.later(GRACE - 0.1) == []
    assert desk.later(0.1) == [Kill(2)]
    assert desk.core.next_deadline() is None
    assert desk.tell(Died(2, -9)) == [settled(2, End.STOPPED, -9)]


def test_a_process_that_has_reported_but_does_not_leave_is_killed_when_the_group_stops():
    """It is not signalled: it is on its way out, and its last lines are still being written."""
    desk = Desk(2)
    desk.tell(returns(1))

    assert desk.tell(Died(2, 1)) == [settled(2, End.LOST, 1)]
    assert desk.later(GRACE) == [Kill(1)]
    assert desk.tell(Died(1, -9)) == [settled(1, End.RETURNED, -9, "value")]


def test_the_process_that_failed_first_is_killed_too_if_it_does_not_leave():
    desk = Desk(1)
    assert desk.tell(raises(1)) == []

    assert desk.later(GRACE) == [Kill(1)]
    assert desk.tell(Died(1, -9)) == [settled(1, End.RAISED, -9, "error")]


def test_a_second_failure_tells_nobody_again():
    desk = Desk(3)
    desk.tell(raises(1))
    deadline = desk.core.next_deadline()
    desk.now += 1

    assert desk.tell(raises(2)) == []
    assert desk.tell(Died(1, 1), Died(2, 1)) == [
        settled(1, End.RAISED, 1, "error"),
        settled(2, End.RAISED, 1, "error"),
    ]
    assert desk.core.next_deadline() == deadline


def test_a_member_that_comes_after_the_failure_is_not_started():
    desk = Desk(1)
    desk.tell(raises(1))

    assert desk.tell(MemberAdded(2)) == [settled(2, End.STOPPED)]


def test_a_failure_alone_does_not_end_the_group():
    """The body of the block still runs; the group is over when that has ended, too."""
    desk = Desk(1)
    desk.tell(raises(1), Died(1, 1))
    assert not desk.core.over

    desk.tell(Closed())
    assert desk.core.over


# ---------------------------------------------------------------------- the end of the block


def test_a_block_that_raised_stops_everybody():
    desk = Desk(2)

    assert desk.tell(StopRequested()) == [Terminate(1), Terminate(2)]
    assert desk.tell(Died(1, -15)) == [settled(1, End.STOPPED, -15)]
    assert not desk.core.over
    assert desk.later(GRACE) == [Kill(2)]
    desk.tell(Died(2, -9))
    assert desk.core.over


def test_stopping_twice_is_stopping_once():
    """At exit an open group is stopped, and its block may end at the same time."""
    desk = Desk(1)
    desk.tell(StopRequested())
    deadline = desk.core.next_deadline()
    desk.now += 1

    assert desk.tell(StopRequested(), Closed()) == []
    assert desk.core.next_deadline() == deadline


def test_a_failure_after_the_close_stops_the_others():
    desk = Desk(2)
    desk.tell(Closed())

    assert desk.tell(raises(1)) == [Terminate(2)]


def test_ctrl_c_while_the_block_waits_stops_those_who_are_left():
    desk = Desk(2)
    desk.tell(Closed(), returns(1), Died(1, 0))

    assert desk.tell(StopRequested()) == [Terminate(2)]


def test_a_start_that_is_refused_after_the_stop_is_no_failure():
    """The refusal crosses the stop."""
    desk = Desk(1)
    desk.tell(StopRequested())

    assert desk.tell(StartRefused(1, "no memory")) == [settled(1, End.STOPPED)]
    assert desk.core.over


# ---------------------------------------------------------------------- the owner's word


def test_a_terminated_member_has_ended_and_is_no_failure():
    desk = Desk(2)

    assert desk.tell(EndRequested(1, kill=False)) == [Terminate(1)]
    assert desk.tell(Died(1, -15)) == [settled(1, End.ENDED, -15)]


def test_no_kill_follows_a_terminate_by_itself():
    desk = Desk(1)
    desk.tell(EndRequested(1, kill=False))

    assert desk.core.next_deadline() is None


def test_a_terminate_is_sent_once_and_a_kill_each_time():
    desk = Desk(1)

    assert desk.tell(EndRequested(1, kill=False), EndRequested(1, kill=False)) == [Terminate(1)]
    assert desk.tell(EndRequested(1, kill=True)) == [Kill(1)]
    assert desk.tell(Died(1, -9)) == [settled(1, End.ENDED, -9)]


@pytest.mark.parametrize("report", [raises(1), raises_while_it_goes(1)])
def test_what_a_terminated_member_raises_stops_nobody(report):
    """Its `finally` may raise; its owner has ended it all the same."""
    desk = Desk(2)
    desk.tell(EndRequested(1, kill=False))

    assert desk.tell(report) == []
    assert desk.tell(Died(1, 1)) == [settled(1, End.ENDED, 1)]
    assert desk.core.next_deadline() is None


@pytest.mark.parametrize("kill", [False, True])
def test_a_terminated_member_that_returns_all_the_same_has_returned(kill):
    desk = Desk(1)
    desk.tell(EndRequested(1, kill=kill))

    assert desk.tell(returns(1), Died(1, 0)) == [settled(1, End.RETURNED, 0, "value")]


@pytest.mark.parametrize("kill", [False, True])
def test_a_failure_stands_when_its_owner_ends_the_process_that_reported_it(kill):
    """The others were stopped for it: it must not vanish."""
    desk = Desk(2)
    desk.tell(raises(1))

    assert desk.tell(EndRequested(1, kill=kill)) == [Kill(1) if kill else Terminate(1)]
    assert desk.tell(Died(1, -9)) == [settled(1, End.RAISED, -9, "error")]


@pytest.mark.parametrize("kill", [False, True])
def test_a_start_that_is_refused_to_a_member_that_was_ended_is_no_failure(kill):
    desk = Desk(2)
    desk.tell(EndRequested(1, kill=kill))

    assert desk.tell(StartRefused(1, "no memory")) == [settled(1, End.ENDED)]


@pytest.mark.parametrize("kill", [False, True])
def test_ending_a_member_that_is_gone_does_nothing(kill):
    desk = Desk(1)
    desk.tell(returns(1), Died(1, 0))

    assert desk.tell(EndRequested(1, kill=kill)) == []


def test_a_member_that_ignores_its_owners_sigterm_is_killed_after_a_failure():
    desk = Desk(2)
    desk.tell(EndRequested(1, kill=False))

    assert desk.tell(raises(2)) == []
    assert desk.later(GRACE) == [Kill(1), Kill(2)]
    assert desk.tell(Died(1, -9)) == [settled(1, End.ENDED, -9)]


def test_a_member_that_was_told_to_go_can_be_killed_at_once():
    """A second Ctrl-C."""
    desk = Desk(1)
    desk.tell(StopRequested())

    assert desk.tell(EndRequested(1, kill=False)) == []
    assert desk.tell(EndRequested(1, kill=True)) == [Kill(1)]
    assert desk.core.next_deadline() is None
    assert desk.tell(Died(1, -9)) == [settled(1, End.STOPPED, -9)]


# ---------------------------------------------------------------------- rule 3: restarts


def test_a_member_with_a_budget_is_started_again_after_the_delay():
    desk = Desk(2, max_restarts=1, within=60.0, delay=2.0)

    assert desk.tell(raises(1)) == []
    assert desk.tell(Died(1, 1)) == [Restarting(1, End.RAISED, 1, "error", 2.0)]
    assert desk.core.next_deadline() == desk.now + 2.0
    assert desk.later(1.9) == []
    assert desk.later(0.1) == [Start(1)]
    assert desk.core.next_deadline() is None
    assert desk.tell(returns(1), Died(1, 0)) == [settled(1, End.RETURNED, 0, "value", attempts=2)]


def test_the_report_of_an_earlier_start_is_forgotten():
    """The second process dies without a word."""
    desk = Desk(1, max_restarts=1, within=60.0)
    desk.tell(raises(1), Died(1, 1))
    desk.later(0)

    assert desk.tell(Died(1, -9)) == [settled(1, End.LOST, -9, attempts=2)]


def test_a_lost_process_and_a_refused_start_spend_the_budget_too():
    desk = Desk(1, max_restarts=2, within=60.0)

    assert desk.tell(Died(1, -9)) == [Restarting(1, End.LOST, -9, None, 0.0)]
    assert desk.later(0) == [Start(1)]
    assert desk.tell(StartRefused(1, "full")) == [Restarting(1, End.NOT_STARTED, None, "full", 0.0)]
    assert desk.later(0) == [Start(1)]
    assert desk.tell(StartRefused(1, "full")) == [
        settled(1, End.NOT_STARTED, None, "full", attempts=3)
    ]


def test_when_the_budget_is_spent_the_failure_stops_the_others_at_its_report():
    desk = Desk(2, max_restarts=1, within=60.0)
    desk.tell(Died(1, 1))
    desk.later(0)

    assert desk.tell(raises(1)) == [Terminate(2)]
    assert desk.tell(Died(1, 1)) == [settled(1, End.RAISED, 1, "error", attempts=2)]


def test_a_budget_comes_back_when_its_window_has_passed():
    desk = Desk(1, max_restarts=1, within=10.0)
    desk.tell(Died(1, 1))
    desk.later(0)
    desk.now += 10.0

    assert desk.tell(Died(1, 1)) == [Restarting(1, End.LOST, 1, None, 0.0)]


def test_a_budget_does_not_come_back_a_moment_before():
    desk = Desk(1, max_restarts=1, within=10.0)
    desk.tell(Died(1, 1))
    desk.later(0)
    desk.now += 9.9

    assert desk.tell(Died(1, 1)) == [settled(1, End.LOST, 1, attempts=2)]


def test_a_failure_that_has_stopped_the_group_stays_one_when_the_window_passes_meanwhile():
    """Between its report and its death."""
    desk = Desk(2, max_restarts=1, within=10.0)
    desk.tell(Died(1, 1))
    desk.later(0)
    assert desk.tell(raises(1)) == [Terminate(2)]
    desk.now += 11.0

    assert desk.tell(Died(1, 1)) == [settled(1, End.RAISED, 1, "error", attempts=2)]


def test_a_member_that_waits_to_be_started_again_is_stopped_without_a_signal():
    desk = Desk()
    desk.tell(MemberAdded(1, 3, 60.0, 9.0), MemberAdded(2), Died(1, 1))

    assert desk.tell(raises(2)) == [settled(1, End.STOPPED)]
    assert desk.core.next_deadline() == desk.now + GRACE


@pytest.mark.parametrize("kill", [False, True])
def test_a_member_that_waits_to_be_started_again_can_be_ended(kill):
    desk = Desk(1, max_restarts=3, within=60.0, delay=9.0)
    desk.tell(Died(1, 1))

    assert desk.tell(EndRequested(1, kill=kill)) == [settled(1, End.ENDED)]
    assert desk.core.next_deadline() is None


@pytest.mark.parametrize("when", ["before its report", "after its report"])
def test_a_member_that_its_owner_ends_is_not_started_again(when):
    desk = Desk(1, max_restarts=3, within=60.0)
    events = [EndRequested(1, kill=False), raises(1)]
    desk.tell(*(events if when == "before its report" else reversed(events)))

    assert desk.tell(Died(1, 1)) == [settled(1, End.ENDED, 1)]


def test_a_group_waits_for_a_restart_that_is_pending_at_the_end_of_its_block():
    desk = Desk(1, max_restarts=1, within=60.0, delay=9.0)
    desk.tell(Died(1, 1), Closed())
    assert not desk.core.over

    assert desk.later(9.0) == [Start(1)]


def test_a_member_with_budget_that_fails_as_the_group_stops_was_stopped():
    """It would have been started again: its failure does not count."""
    desk = Desk()
    desk.tell(MemberAdded(1, 3, 60.0), MemberAdded(2), MemberAdded(3, 3, 60.0))
    desk.tell(raises(1), raises(2))

    assert desk.tell(Died(1, 1)) == [settled(1, End.STOPPED, 1)]
    assert desk.tell(raises(3), Died(3, 1)) == [settled(3, End.STOPPED, 1)]


def test_restarts_of_one_member_do_not_spend_anothers_budget():
    desk = Desk(2, max_restarts=1, within=60.0)
    desk.tell(Died(1, 1))

    assert desk.tell(Died(2, 1)) == [Restarting(2, End.LOST, 1, None, 0.0)]


def test_what_is_due_first_is_done_first_and_the_rest_in_its_time():
    desk = Desk()
    desk.tell(MemberAdded(1, 1, 60.0, 3.0), MemberAdded(2, 1, 60.0, 1.0), Died(1, 1), Died(2, 1))

    assert desk.later(1.0) == [Start(2)]
    assert desk.later(2.0) == [Start(1)]


def test_only_these_ends_are_failures():
    assert {End.RAISED, End.LOST, End.NOT_STARTED} == FAILURES
