"""A process with more than 1,024 descriptors (a web server that embeds the engine) works as any other."""

import os
import resource
from collections.abc import Iterator
from contextlib import closing

import pytest

from continuum import Continuum, activity, workflow
from continuum.journal.open import open_journal


@activity(name="fds.big")
def big(size: int) -> str:
    return "x" * size


@workflow(name="fds.flow")
async def flow(size: int) -> int:
    return len(await big(size))


@pytest.fixture
def _descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("too few descriptors allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    yield
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("_descriptors")
def test_a_dispatcher_works_beyond_a_thousand_descriptors(database_url: str) -> None:
    with closing(open_journal(database_url)) as journal, Continuum(journal=journal) as instance, instance.running():
        assert instance.start(flow, 1_500_000).result(timeout=20) == 1_500_000
