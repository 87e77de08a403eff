"""Here lives Temporal's Python replayer on a history as long as ours. No server is needed.

Its history is a sequence of activities, six events each, as a server would have written it. The sandbox is what users
have by default; ratios are made with the faster runner, which leaves it out.
"""

import asyncio
import base64
import gc
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

with workflow.unsafe.imports_passed_through():
    from benchmarks.child import serve
    from benchmarks.figures import median

RESULT = {"ok": True, "value": 1, "id": "ord_0123456789", "note": "charged"}
QUEUE = {"name": "bench", "kind": "TASK_QUEUE_KIND_NORMAL"}
EVENTS_PER_STEP = 6


@activity.defn(name="noop")
async def noop(number: int) -> dict[str, Any]:  # noqa: ARG001 - as ours
    return dict(RESULT)


@workflow.defn(name="steps")
class Steps:
    @workflow.run
    async def run(self, count: int) -> int:
        total = 0
        for number in range(count):
            result = await workflow.execute_activity(noop, number, start_to_close_timeout=timedelta(seconds=60))
            total += result["value"]
        return total


class History:
    """The JSON form of a history, event by event."""

    def __init__(self, count: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._at = datetime(2025, 10, 1, tzinfo=UTC)
        self._add(
            "WORKFLOW_EXECUTION_STARTED",
            workflowExecutionStartedEventAttributes={
                "workflowType": {"name": "steps"},
                "taskQueue": QUEUE,
                "input": {"payloads": [_payload(count)]},
                "workflowTaskTimeout": "10s",
                "originalExecutionRunId": "11111111-1111-1111-1111-111111111111",
                "firstExecutionRunId": "11111111-1111-1111-1111-111111111111",
                "attempt": 1,
                "firstWorkflowTaskBackoff": "0s",
                "workflowId": "bench",
            },
        )
        turned = self._turn(sdkMetadata={"coreUsedFlags": [1, 2, 3]})
        for number in range(count):
            self._step(number, turned)
            turned = self._turn()
        self._add(
            "WORKFLOW_EXECUTION_COMPLETED",
            workflowExecutionCompletedEventAttributes={
                "result": {"payloads": [_payload(count)]},
                "workflowTaskCompletedEventId": str(turned),
            },
        )

    def _add(self, kind: str, **attributes: Any) -> int:
        self._at += timedelta(milliseconds=10)
        number = len(self.events) + 1
        self.events.append(
            {
                "eventId": str(number),
                "eventTime": self._at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "eventType": f"EVENT_TYPE_{kind}",
                "taskId": str(1000 + number),
                **attributes,
            }
        )
        return number

    def _turn(self, **extra: Any) -> int:
        scheduled = self._add(
            "WORKFLOW_TASK_SCHEDULED",
            workflowTaskScheduledEventAttributes={"taskQueue": QUEUE, "startToCloseTimeout": "10s", "attempt": 1},
        )
        started = self._add(
            "WORKFLOW_TASK_STARTED",
            workflowTaskStartedEventAttributes={
                "scheduledEventId": str(scheduled),
                "identity": "bench",
                "requestId": "r",
            },
        )
        return self._add(
            "WORKFLOW_TASK_COMPLETED",
            workflowTaskCompletedEventAttributes={
                "scheduledEventId": str(scheduled),
                "startedEventId": str(started),
                "identity": "bench",
                **extra,
            },
        )

    def _step(self, number: int, turned: int) -> None:
        scheduled = self._add(
            "ACTIVITY_TASK_SCHEDULED",
            activityTaskScheduledEventAttributes={
                "activityId": str(number + 1),
                "activityType": {"name": "noop"},
                "taskQueue": QUEUE,
                "header": {},
                "input": {"payloads": [_payload(number)]},
                "scheduleToCloseTimeout": "0s",
                "scheduleToStartTimeout": "0s",
                "startToCloseTimeout": "60s",
                "heartbeatTimeout": "0s",
                "workflowTaskCompletedEventId": str(turned),
            },
        )
        started = self._add(
            "ACTIVITY_TASK_STARTED",
            activityTaskStartedEventAttributes={
                "scheduledEventId": str(scheduled),
                "identity": "bench",
                "requestId": "r",
                "attempt": 1,
            },
        )
        self._add(
            "ACTIVITY_TASK_COMPLETED",
            activityTaskCompletedEventAttributes={
                "result": {"payloads": [_payload(RESULT)]},
                "scheduledEventId": str(scheduled),
                "startedEventId": str(started),
                "identity": "bench",
            },
        )


def _payload(value: Any) -> dict[str, Any]:
    return {
        "metadata": {"encoding": base64.b64encode(b"json/plain").decode()},
        "data": base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode(),
    }


async def _replay(history: WorkflowHistory, runner: Any) -> float:
    gc.collect()
    replayer = Replayer(workflows=[Steps], workflow_runner=runner)
    began = time.perf_counter()
    await replayer.replay_workflow(history)
    return time.perf_counter() - began


def replaying(options: dict[str, Any]) -> dict[str, Any]:
    logging.basicConfig(level=logging.ERROR)
    steps = options["events"] // EVENTS_PER_STEP
    events = History(steps).events
    history = WorkflowHistory.from_json("bench", json.dumps({"events": events}))
    runner = SandboxedWorkflowRunner() if options["sandbox"] else UnsandboxedWorkflowRunner()

    async def everything() -> list[float]:
        return [await _replay(history, runner) for _ in range(options["repeat"])]

    taken = asyncio.run(everything())
    return {
        "figures": {
            "us_per_event": round(median(taken) / len(events) * 1e6, 3),
            "us_per_step": round(median(taken) / steps * 1e6, 3),
        },
        "detail": {"events": len(events), "steps": steps},
        "verified": f"{len(events)} events replayed without a failure",
    }


if __name__ == "__main__":
    serve({"replaying": replaying})
