"""A thousand activities at once, at most fifty of them running, with one slow and one broken among them.

python examples/fan_out.py
"""

import asyncio

from continuum import ActivityFailed, Continuum, Retry, activity, current_attempt, workflow


@activity(retry=1)
async def resize(picture: int) -> int:
    if picture == 13:  # noqa: PLR2004 - an unlucky picture
        raise ValueError("not a picture")
    await asyncio.sleep(0.2 if picture == 0 else 0)
    return picture * picture


@activity(retry=Retry(max_attempts=3), heartbeat_timeout=30)
def publish(total: int) -> str:
    current_attempt().heartbeat({"total": total})
    return f"published {total}"


@workflow
async def album(pictures: int) -> str:
    room = asyncio.Semaphore(50)

    async def resized(picture: int) -> int:
        async with room:
            try:
                return await resize(picture)
            except ActivityFailed:
                return 0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(resized(picture)) for picture in range(pictures)]
    return await publish(sum(task.result() for task in tasks))


def main() -> None:
    with Continuum("memory://") as continuum, continuum.running():
        handle = continuum.start(album, 1000)
        print(handle.result(timeout=60))
        print(f"{len(handle.history())} events")


if __name__ == "__main__":
    main()
