"""A request that two of three people have to approve before it expires, with a reminder, and that can be withdrawn.

python examples/approval.py
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta

from continuum import Continuum, RunCancelled, Signal, activity, sleep, wait_until, workflow

NEEDED = 2


@dataclass(frozen=True)
class Vote:
    """One person's opinion."""

    who: str
    approves: bool


vote = Signal("vote", Vote)
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


@workflow
async def approval_flow(request: str, expires: timedelta, remind: timedelta) -> str:
    votes = Votes()

    async def listen() -> None:
        while True:
            heard = await vote.wait()
            votes.given[heard.who] = heard.approves  # a second vote of one person replaces the first

    async def remind_once() -> None:
        await sleep(remind)
        await send(f"please vote on {request}")

    background = [asyncio.create_task(listen()), asyncio.create_task(remind_once())]
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
    return "approved" if sum(votes.given.values()) >= NEEDED else "rejected"


def main() -> None:
    with Continuum("memory://") as continuum, continuum.running():
        holiday = continuum.start(approval_flow, "holiday", timedelta(days=7), timedelta(days=2))
        for who, approves in (("Ada", True), ("Bob", False), ("Cleo", True)):
            holiday.signal(vote, Vote(who, approves))
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
