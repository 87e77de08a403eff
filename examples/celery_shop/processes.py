"""Here live the shop's processes: worker, beat, dispatcher, Flower, and what they have written about the world."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from examples.celery_shop.brokers import START_SECONDS, answers, free_port, process

__all__ = ["Ledger", "Shop", "Urls"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
QUEUES: Final = "celery,mail,continuum_activities"
DISPATCHER: Final = "from continuum.cli.dispatcher import main; main()"


@dataclass(frozen=True)
class Urls:
    """Where the shop's servers are. ``database`` is needed after, not before."""

    broker: str
    results: str
    database: str | None = None


class Ledger:
    """What happened in the world, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[dict[str, Any]]:
        """Return all of them."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def count(self, what: str) -> Counter[str]:
        """Return how often this was done for each order."""
        return Counter(line["order"] for line in self.lines() if line["what"] == what)

    def under_way(self) -> int:
        """Return how many charges have begun and not ended."""
        charged = self.count("charged")
        return sum(order not in charged for order in self.count("charge asked"))


class Shop:
    """One shop, ``before`` or ``after``, with processes of its own; ``stack`` ends them."""

    def __init__(
        self, variant: str, urls: Urls, directory: Path, stack: ExitStack, *, settings: Mapping[str, str] | None = None
    ) -> None:
        self.variant = variant
        self.ledger = Ledger(directory / "ledger.jsonl")
        self._directory = directory
        self._stack = stack
        self._worker: subprocess.Popen[bytes] | None = None
        self._env = {
            "PYTHONPATH": os.pathsep.join([str(HERE / variant), str(HERE), str(ROOT)]),
            "CELERY_BROKER_URL": urls.broker,
            "SHOP_RESULTS_URL": urls.results,
            "SHOP_LEDGER": str(self.ledger.path),
            **({"CONTINUUM_DATABASE_URL": urls.database} if urls.database else {}),
            **(settings or {}),
        }

    def start_worker(self, *more: str) -> None:
        """Run the shop's Celery worker: the same command before and after."""
        self._worker = self._celery("worker", "-c", "2", "-Q", QUEUES, "-l", "INFO", *more, log="worker.log")

    def start_beat(self) -> None:
        """Run beat, as before."""
        self._celery("beat", "-s", str(self._directory / "beat"), log="beat.log")

    def start_dispatcher(self) -> None:
        """Run the one process that is new."""
        self._python("-c", DISPATCHER, "-A", "shop", log="dispatcher.log")

    def start_flower(self) -> str:
        """Run Flower, and return where it is once it listens; what happened before it does not know."""
        port = free_port()
        flower = self._celery("flower", f"--port={port}", "--address=127.0.0.1", log="flower.log")
        deadline = time.monotonic() + START_SECONDS
        while not answers(port, b"GET / HTTP/1.0\r\n\r\n"):
            if flower.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Flower does not start (pip install flower):\n{self.log('flower.log')}")
            time.sleep(0.1)
        return f"http://127.0.0.1:{port}"

    def kill_worker(self) -> None:
        """Kill -9: the worker and its children."""
        assert self._worker is not None
        os.killpg(self._worker.pid, signal.SIGKILL)
        self._worker.wait()

    def place(self, orders: list[str]) -> None:
        """Do what the website does."""
        done = self._python("-m", "shop.place", *orders, log="place.log")
        if done.wait(60):
            raise RuntimeError(f"the orders could not be placed:\n{self.log('place.log')}")

    def log(self, name: str) -> str:
        """Return the end of a process's output."""
        return (self._directory / name).read_text(encoding="utf-8", errors="replace")[-3000:]

    def wait_for_orders(self, orders: list[str], *, quiet: float, longest: float = 300.0) -> None:
        """Wait until all orders are confirmed, or nothing has happened for ``quiet`` seconds."""
        seen, since, deadline = -1, time.monotonic(), time.monotonic() + longest
        while time.monotonic() < deadline:
            lines = [line for line in self.ledger.lines() if line["order"] != "-"]
            if {line["order"] for line in lines if line["what"] == "confirmed"} >= set(orders):
                return
            if len(lines) != seen:
                seen, since = len(lines), time.monotonic()
            elif time.monotonic() - since > quiet:
                return
            time.sleep(0.1)

    def _celery(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        return self._python("-m", "celery", "-A", "shop", *arguments, log=log)

    def _python(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        command, where = [sys.executable, *arguments], self._directory
        return self._stack.enter_context(process(command, log=where / log, env=self._env, cwd=where))
