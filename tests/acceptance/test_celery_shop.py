"""The shop of examples/celery_shop: what its README says of the two variants is so, and both work."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "celery_shop"
PATIENCE = 110

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


def lines_of(variant: str, name: str) -> list[str]:
    text = (EXAMPLE / variant / "shop" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def run(*arguments: str, patience: float = PATIENCE) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CONTINUUM_", "CELERY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "examples.celery_shop", *arguments],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 0, f"it ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_tasks_are_the_same_before_and_after() -> None:
    for name in ("tasks.py", "place.py"):
        assert lines_of("before", name) == lines_of("after", name)


def test_some_ten_lines_are_new_beside_the_order_itself() -> None:
    grown = sum(
        len(lines_of("after", name)) - len(lines_of("before", name))
        for name in ("celery.py", "orders.py", "__init__.py")
    )
    order = re.search(r"@workflow\n.*?(?=\ndef place)", "\n".join(lines_of("after", "orders.py")), re.DOTALL)
    assert order is not None
    assert len(order[0].splitlines()) == 6
    assert grown - 6 <= 10


@needs_redis
@pytest.mark.parametrize("variant", ["before", "after"])
def test_the_shop_works_on_redis(variant: str) -> None:
    output = run(variant, "--orders", "7")
    assert "7 of 7 orders are finished" in output
    assert len(re.findall(r"o7 +charge asked", output)) == 2, "the seventh order is told to try again"
    assert len(re.findall(r"o\d +charged$", output, re.MULTILINE)) == 7


@pytest.mark.skipif(shutil.which("rabbitmq-server") is None, reason="rabbitmq-server is not installed")
@needs_redis
@pytest.mark.parametrize("variant", ["before", "after"])
def test_the_shop_works_on_rabbitmq(variant: str) -> None:
    assert "2 of 2 orders are finished" in run("--broker", "rabbitmq", variant, "--orders", "2")


@needs_redis
def test_flower_shows_the_names_of_the_tasks_and_their_runs() -> None:
    pytest.importorskip("flower", reason="Flower is not installed")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CONTINUUM_", "CELERY_"))}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.celery_shop", "--flower", "--orders", "1"],
        cwd=ROOT,
        env={**kept, "FLOWER_UNAUTHENTICATED_API": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Flower runs until" in line:
                break
        (url,) = re.findall(r"^Flower: (\S+)$", "".join(said), re.MULTILINE)

        def names() -> set[str]:
            with urllib.request.urlopen(f"{url}/api/tasks", timeout=10) as answer:
                tasks = json.load(answer).values()
            return {task["name"] for task in tasks if "run " in (task["args"] or "") and task["root_id"]}

        wanted = {f"shop.tasks.{name}" for name in ("reserve", "price", "charge", "ship", "confirm")}
        eventually(lambda: names() == wanted, timeout=30, interval=0.2)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
