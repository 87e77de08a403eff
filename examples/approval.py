"""A request that two of three people have to approve before it expires, with a reminder, and that can be withdrawn.

It answers questions, takes nothing but what it has declared, and is found by what it waits for.

python examples/approval.py             in memory
python examples/approval.py --postgres  on a Postgres that the script starts by itself
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta

from continuum import Continuum, Signal, activity, set_attributes, sleep, wait_until, workflow
from continuum.errors import RunCancelled, SignalRefused

NEEDED = 2


@dataclass(frozen=True)
class Vote:
    """One person's opinion."""

    who: str
    approves: bool


vote = Signal("vote", Vote)
missing = Signal("missing", int, reply=int)  # how many votes are missing, if so many people are to be asked?
sent: list[str] = []


@activity
def send(message: str) -> None:
    sent.append(message)


@dataclass
class Votes:
    """What has been heard so far; an ordinary object, rebuilt by replay."""

    given: dict[str, bool] = field(default_factory=dict)

    @property
    def decided(self) -> bool:
        """Whether further votes could not change the outcome."""
        approvals = sum(self.given.values())
        return approvals >= NEEDED or len(self.given) - approvals >= NEEDED


@workflow(signals=[vote, missing])
async def approval_flow(request: str, expires: timedelta, remind: timedelta) -> str:
    votes = Votes()
    set_attributes({"request": request, "waits_for": "votes"})

    async def listen() -> None:
        while True:
            heard = await vote.wait()
            votes.given[heard.who] = heard.approves  # a second vote of one person replaces the first

    async def tell() -> None:
        while True:
            question = await missing.receive()
            question.answer(question.value - len(votes.given))

    async def remind_once() -> None:
        await sleep(remind)
        await send(f"please vote on {request}")

    background = [asyncio.create_task(work) for work in (listen(), tell(), remind_once())]
    try:
        await wait_until(lambda: votes.decided, timeout=expires)
    except TimeoutError:
        return "expired"
    except asyncio.CancelledError:
        await send(f"{request} was withdrawn")
        raise
    finally:
        for task in background:
            task.cancel()
        set_attributes({"waits_for": None})
    return "approved" if sum(votes.given.values()) >= NEEDED else "rejected"


def main() -> None:
    instance = Continuum.dev() if "--postgres" in sys.argv else Continuum("memory://")
    with instance as continuum, continuum.running():
        holiday = continuum.start(approval_flow, "holiday", timedelta(days=7), timedelta(days=2))
        holiday.signal(vote, Vote("Ada", approves=True))
        holiday.signal(vote, Vote("Bob", approves=False))
        print("missing:", holiday.ask(missing, 3, timeout=30))
        try:
            holiday.signal("vote", "yes")  # by name only, and wrong: refused before anything is written
        except SignalRefused as error:
            print("refused:", error)

        waiting = continuum.search(where={"attributes.waits_for": "votes", "state": "suspended"}).runs
        print("waiting:", ", ".join(run.attributes["request"] for run in waiting))
        holiday.signal(vote, Vote("Cleo", approves=True))
        print("holiday:", holiday.result(timeout=30))

        desk = continuum.start(approval_flow, "desk", timedelta(milliseconds=200), timedelta(milliseconds=20))
        print("desk:   ", desk.result(timeout=30))

        boat = continuum.start(approval_flow, "boat", timedelta(days=7), timedelta(milliseconds=20))
        while "please vote on boat" not in sent:
            time.sleep(0.05)
        boat.cancel()
        try:
            boat.result(timeout=30)
        except RunCancelled as error:
            print("boat:   ", error)
        print("sent:   ", ", ".join(sent))


if __name__ == "__main__":
    main()
