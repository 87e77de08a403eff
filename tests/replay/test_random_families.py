"""Random programs with children and sagas: they replay as recorded, and whatever is asked of a child is asked once."""

import random as chance

from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.model.events import EventType
from tests.replay.programs import again, continued, live, recorded

seeds = st.integers(0, 2**32)
often = settings(max_examples=120, deadline=None)


@often
@given(seeds)
def test_a_program_with_children_replays_as_it_was_recorded(seed):
    lab, trace = recorded(seed, families=True)
    last = lab.decisions[-1]
    for inline in (True, False):
        assert again(seed, lab.history, inline=inline, families=True) == (trace, [], (last.state, last.wake_at))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_every_prefix_with_children_replays_to_the_decision_it_ended_with(seed):
    lab, trace = recorded(seed, families=True)
    for cut, decision in zip(lab.cuts(), lab.decisions, strict=True):
        replayed, fresh, standing = again(seed, lab.history[:cut], inline=True, families=True)
        assert fresh == []
        assert standing == (decision.state, decision.wake_at)
        assert replayed == trace[: len(replayed)]


@often
@given(seeds)
def test_a_replayed_run_with_children_goes_on_as_the_one_that_stayed_in_memory(seed):
    lab, trace = recorded(seed, families=True)
    dice = chance.Random(seed)
    for cut in [1, *dice.sample(lab.cuts(), min(3, len(lab.cuts())))]:
        for inline in (True, False):
            assert continued(seed, lab.history, cut, inline=inline, families=True) == (trace, lab.commands)


@often
@given(seeds)
def test_what_a_run_asks_of_its_children_is_asked_once(seed):
    lab, _ = recorded(seed, families=True)
    commands = [e.command for e in lab.history if e.type == EventType.CHILD_STARTED]
    orders = [order for decision in lab.decisions for order in decision.children]
    letters = [letter for decision in lab.decisions for letter in decision.letters]
    assert [order.command for order in orders] == commands
    assert len({order.id for order in orders}) == len(orders)
    sent = [letter for letter in letters if letter.kind == EventType.SIGNAL_RECEIVED]
    assert len(sent) == sum(e.type == EventType.SIGNAL_SENT for e in lab.history)
    noted = [e.command for e in lab.history if e.type == EventType.CHILD_CANCEL_REQUESTED]
    assert len(set(noted)) == len(noted)
    asked = [letter.chain_id for letter in letters if letter.kind == EventType.CANCEL_REQUESTED]
    assert len(set(asked)) == len(asked)
    ids = {order.command: order.id for order in orders}
    assert {ids[command] for command in noted} <= set(asked)


def test_programs_with_children_end_in_every_way():
    """The programs are worth something only if they do all of it."""
    types = set()
    for seed in range(150):
        lab, _ = live(seed, families=True)
        types |= {str(e.type) for e in lab.history}
        lab.close()
    assert types >= {
        "child_started", "child_completed", "child_failed", "child_cancelled", "child_cancel_requested", "signal_sent",
        "attributes_set", "value_published", "compensation_scheduled",
        "run_continued", "run_completed", "run_failed", "run_cancelled",
    }  # fmt: skip
