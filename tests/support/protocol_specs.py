"""Here lives what the runs of a schedule do: random, but decided before it begins, so that everybody can foresee it."""

from random import Random

import msgspec

from continuum.model.runs import ParentClose

__all__ = ["TIMER_US", "ChildSpec", "Spec", "heir_of", "random_spec"]

TIMER_US = 4_000
DEPTH = 2
DOOMED = 0.3


class ChildSpec(msgspec.Struct):
    """What a run asks of a child.

    :ivar awaited: whether the parent ends only after it.
    :ivar early: signals it is sent in the decision that orders it; ``late``: afterwards.
    :ivar later: whether it is ordered after the first completion, and not at the beginning.
    """

    spec: "Spec"
    close: ParentClose
    awaited: bool
    early: int
    late: int
    later: bool = False

    @property
    def is_hungry(self) -> bool:
        """Whether it waits for a signal that nobody sends, and so has to be told to end."""
        return self.spec.signals > self.early + self.late


class Spec(msgspec.Struct):
    """What a chain does.

    :ivar signals: how many it gets.
    :ivar generations: the children of each of its runs.
    :ivar stubborn: whether a request to cancel does not stop a run that has begun.
    :ivar doomed: whether it will be asked to cancel, so that it may wait for a child that does not end by itself.
    """

    signals: int
    timer_us: int | None = None
    activities: int = 4
    continues: int = 0
    stubborn: bool = False
    reaches_out: bool = False
    doomed: bool = False
    generations: list[list[ChildSpec]] = []

    @property
    def generation(self) -> list[ChildSpec]:
        """The children of the first run."""
        return self.generations[0] if self.generations else []


def heir_of(spec: Spec, taken: int) -> Spec:
    """Return what is left to do for a successor."""
    return msgspec.structs.replace(
        spec, signals=spec.signals - taken, continues=spec.continues - 1, generations=spec.generations[1:]
    )


def random_spec(random: Random, *, family: bool) -> Spec:
    """Return what a chain does that nobody started as a child."""
    plain = Spec(random.choice((0, 1, 2, 2)), TIMER_US if random.random() < 0.5 else None)
    return _with_family(random, plain, depth=0) if family else plain


def _with_family(random: Random, spec: Spec, *, depth: int) -> Spec:
    continues = random.choice((0, 0, 1, 2) if depth == 0 else (0, 0, 0, 1))
    doomed = depth == 0 and random.random() < DOOMED
    counts = (0, 1, 2) if depth == 0 else (0, 0, 1) if depth < DEPTH else (0,)
    generations = [
        [_random_child(random, depth + 1, doomed=doomed) for _ in range(random.choice(counts))]
        for _ in range(1 + continues)
    ]
    return msgspec.structs.replace(
        spec,
        activities=random.choice((0, 1, 2, 4)),
        continues=continues,
        stubborn=random.random() < 0.3,
        reaches_out=True,
        doomed=doomed,
        generations=generations,
    )


def _random_child(random: Random, depth: int, *, doomed: bool) -> ChildSpec:
    close = random.choice(list(ParentClose))
    awaited = random.random() < 0.5
    early, late = random.choice((0, 1, 2)), 0 if close == ParentClose.ABANDON else random.choice((0, 0, 1))
    hungry = (doomed or not awaited) and close != ParentClose.ABANDON and random.random() < 0.6
    spec = Spec(early + late + hungry, TIMER_US if random.random() < 0.3 else None)
    spec = _with_family(random, spec, depth=depth)
    # Whoever may have to be told to end must listen.
    spec = msgspec.structs.replace(spec, stubborn=spec.stubborn and not hungry and not late)
    return ChildSpec(spec, close, awaited, early, late, later=random.random() < 0.4)
