"""Knowing where one is."""

import asyncio
import threading

import pytest

from continuum.errors import NotInWorkflow
from continuum.replay.effects.base import in_workflow, run_info
from tests.replay.lab import RUN, Lab


def test_workflow_code_knows_its_run():
    async def flow():
        info = run_info()
        assert info is RUN
        return [in_workflow(), info.run_id, info.workflow, info.version, info.namespace, info.chain_id]

    assert Lab(flow).begin().result == [True, RUN.run_id, "lab", 1, "default", RUN.chain_id]


def test_elsewhere_there_is_none():
    assert in_workflow() is False
    with pytest.raises(NotInWorkflow, match=r"run_info\(\).*@workflow"):
        run_info()

    async def host():
        return in_workflow()

    assert asyncio.run(host()) is False


def test_a_thread_that_workflow_code_starts_is_elsewhere():
    async def flow():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(in_workflow()))
        thread.start()
        thread.join()
        return [*seen, in_workflow()]

    assert Lab(flow).begin().result == [False, True]
