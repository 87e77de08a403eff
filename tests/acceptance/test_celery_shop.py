"""The shop of examples/celery_shop: what its README says of the two variants is so, and both work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
