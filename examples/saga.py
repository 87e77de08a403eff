"""A trip: flight, hotel and car are booked at the same time. What cannot be kept is given back, newest first.

python examples/saga.py             in memory
python examples/saga.py --postgres  on a Postgres that the script starts by itself
"""

import asyncio
import sys
import time

from continuum import ActivityFailed, Continuum, PermanentError, RunCancelled, Signal, activity, publish, saga, workflow

paid = Signal("paid", str)
world: list[str] = []  # what the airline, the hotel and the car rental have in their books


@activity
async def book(what: str, trip: str) -> str:
    await asyncio.sleep({"flight": 0, "hotel": 0.05, "car": 0.2}[what])
    if (what, trip) == ("car", "island"):
        raise PermanentError("there are no cars on the island")
    world.append(f"{what} to the {trip}")
    return f"{what} {len(world)}"


@activity
async def give_back(what: str, trip: str) -> None:
    # As any activity it may be attempted twice: giving back what is not booked any more does nothing.
    if f"{what} to the {trip}" in world:
        world.remove(f"{what} to the {trip}")


def reserve(what: str, trip: str) -> asyncio.Future[str]:
    return book(what, trip).compensate(give_back, what, trip)


@workflow(signals=[paid])
async def trip_flow(trip: str) -> str:
    try:
        async with saga() as undo:
            booked = await asyncio.gather(reserve("flight", trip), reserve("hotel", trip), reserve("car", trip))
            publish("booked", booked)
            receipt = await paid.wait()
    except ActivityFailed as error:
        assert undo.outcome is not None
        return f"no trip, {error.error_message}; given back: {len(undo.outcome.undone)}"
    return f"have a nice trip, {receipt}"


def main() -> None:
    instance = Continuum.dev() if "--postgres" in sys.argv else Continuum("memory://")
    with instance as continuum, continuum.running():
        city = continuum.start(trip_flow, "city")
        city.signal(paid, "receipt 17")
        print("city:     ", city.result(timeout=30))

        island = continuum.start(trip_flow, "island")
        print("island:   ", island.result(timeout=30))

        mountains = continuum.start(trip_flow, "mountains")
        while "booked" not in mountains.progress():
            time.sleep(0.02)
        print("mountains:", ", ".join(mountains.progress()["booked"]))
        mountains.cancel()
        try:
            mountains.result(timeout=30)
        except RunCancelled as error:
            print("mountains:", error.state)
        for event in mountains.history():
            if event.type in {"activity_scheduled", "compensation_scheduled"}:
                print(f"  {event.type:<22} {event.payload}")

        print("booked:   ", ", ".join(world))
        assert world == ["flight to the city", "hotel to the city", "car to the city"]


if __name__ == "__main__":
    main()
