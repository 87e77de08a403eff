"""Two hundred documents, read by twenty child runs of ten each, at most five at a time; one document is unreadable.

python examples/batch_of_children.py             in memory
python examples/batch_of_children.py --postgres  on a Postgres that the script starts by itself
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field

from continuum import ChildFailed, Continuum, activity, publish, start_child, workflow

UNREADABLE = 137


@dataclass
class Report:
    """What became of the documents."""

    words: int = 0
    unread: dict[str, str] = field(default_factory=dict)


@activity(retry=1)
async def count_words(document: int) -> int:
    await asyncio.sleep(0.01)
    if document == UNREADABLE:
        raise ValueError(f"document {document} is not text")
    return 100


@workflow
async def read_batch(documents: list[int]) -> int:
    return sum(await asyncio.gather(*map(count_words, documents)))


@workflow
async def read_all(documents: list[int], batch: int) -> Report:
    report = Report()
    room = asyncio.Semaphore(5)
    done = 0

    async def read(part: list[int]) -> None:
        nonlocal done
        key = f"{part[0]}-{part[-1]}"
        async with room:
            try:
                words = await start_child(read_batch, part, key=key)
                report.words += words
            except ChildFailed as error:  # the child's exception, as far as it can be told
                report.unread[key] = error.error_message
        done += len(part)
        publish("documents", done)

    async with asyncio.TaskGroup() as group:
        for first in range(0, len(documents), batch):
            group.create_task(read(documents[first : first + batch]))
    return report


def main() -> None:
    instance = Continuum.dev() if "--postgres" in sys.argv else Continuum("memory://")
    with instance as continuum, continuum.running():
        handle = continuum.start(read_all, list(range(200)), 10)
        seen = 0
        while not handle.refresh().ended:
            done = handle.progress().get("documents", 0)
            if done > seen:
                print(f"{done} of 200")
            seen = done
            time.sleep(0.02)
        report = handle.result(timeout=60)
        print(f"{report.words} words")
        for key, reason in report.unread.items():
            print(f"not read: {key} ({reason})")

        page = continuum.search(where={"parent_id": handle.id, "state": "failed"})
        print("failed children:", len(page.runs))
        assert (report.words, list(report.unread)) == (19_000, ["130-139"])


if __name__ == "__main__":
    main()
