"""Here live random plans of families: what each run of a tree does, as JSON, from a seed alone.

A plan is ``{"tag": text, "lap": 0, "laps": [steps, …]}``: one list of steps for each run of the chain. A step is a list
whose first item names it; `family_races` says what each of them does.
"""

import random
from typing import Any

__all__ = ["SIGNALS", "Plan", "make_plan"]

Plan = dict[str, Any]
SIGNALS = ("item", "word")
POLICIES = ("cancel", "cancel", "terminate", "abandon")
# What a parent does with a child it has started.
CHILDREN = ("await", "await", "leave", "later", "ask", "timeout", "shield", "drop", "signal")
BRANCHES = ("gather", "group", "race")
DEEPEST = 4


class _Maker:
    def __init__(self, rng: random.Random, budget: int) -> None:
        self.rng = rng
        self.budget = budget
        self.number = 0

    def next(self) -> int:
        self.number += 1
        return self.number

    def ms(self) -> int:
        return self.rng.choice((0, 1, 3, 5, 10, 20, 40))

    def plan(self, tag: str, depth: int) -> Plan:
        laps = 1 if self.rng.random() < 0.75 else self.rng.randint(2, 3)
        return {"tag": tag, "lap": 0, "laps": [self.steps(tag, depth, most=4) for _ in range(laps)]}

    def child(self, tag: str, depth: int) -> Plan:
        self.budget -= 1
        return self.plan(f"{tag}.{self.next()}", depth + 1)

    def may_have_child(self, depth: int) -> bool:
        return self.budget > 0 and depth < DEEPEST

    def steps(self, tag: str, depth: int, *, most: int, in_saga: bool = False) -> list[Any]:
        return [self.step(tag, depth, in_saga=in_saga) for _ in range(self.rng.randint(1, most))]

    def step(self, tag: str, depth: int, *, in_saga: bool) -> list[Any]:
        rng = self.rng
        kinds = ["work", "nap", "take", "take", "say", "attributes"]
        kinds += ["saga", "saga", "guard"]
        if rng.random() < 0.15:
            kinds += ["fail"]
        if in_saga:
            kinds += ["book"] * 5
        if self.may_have_child(depth):
            kinds += ["child"] * 12 + ["branches"] * 4
            if in_saga:
                kinds += ["book child"] * 3
        number = self.next()
        match rng.choice(kinds):
            case "work":
                return ["work", self.ms()]
            case "nap":
                return ["nap", self.ms()]
            case "take":
                # Without an end in one of three: only a signal, a cancel or an end of a parent ends it.
                return ["take", rng.choice(SIGNALS), None if rng.random() < 0.5 else self.ms()]
            case "say":
                return ["say", number]
            case "attributes":
                return ["attributes", f"w{number}"]
            case "fail":
                return ["fail", number]
            case "saga":
                inner = self.steps(tag, depth, most=4, in_saga=True)
                return ["saga", {"parallel": rng.random() < 0.3, "catch": rng.random() < 0.5}, inner]
            case "guard":
                how = rng.choice(("clean", "clean", "stubborn", "send"))
                return ["guard", how, self.steps(tag, depth, most=2, in_saga=in_saga)]
            case "book":
                limit = self.ms() if rng.random() < 0.3 else None
                return ["book", number, rng.choice(("plain", "plain", "sound")), self.ms(), limit]
            case "book child":
                policy = rng.choice(POLICIES[:3])
                return ["book child", number, self.child(tag, depth), policy, rng.random() < 0.5]
            case "branches":
                kind = rng.choice(BRANCHES)
                branches = [self.steps(tag, depth, most=2, in_saga=in_saga) for _ in range(rng.randint(2, 3))]
                return [kind, rng.random() < 0.5, branches]
            case _:
                how = rng.choice(CHILDREN)
                options = {"policy": rng.choice(POLICIES), "how": how, "catch": rng.random() < 0.6, "ms": self.ms()}
                return ["child", number, self.child(tag, depth), options]


def make_plan(seed: str) -> Plan:
    """Return the plan of a tree's root: it always has a child."""
    rng = random.Random(seed)
    maker = _Maker(rng, budget=rng.randint(3, 8))
    options = {"policy": rng.choice(POLICIES), "how": rng.choice(CHILDREN), "catch": True, "ms": maker.ms()}
    first = ["child", maker.next(), maker.child(seed, 0), options]
    plan = maker.plan(seed, 0)
    where = plan["laps"][rng.randrange(len(plan["laps"]))]
    where.insert(rng.randint(0, len(where)), first)
    return plan
