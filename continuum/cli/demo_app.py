"""Here lives the application of ``continuum demo``: orders that are checked, charged, reviewed and shipped.

It is what a user's application looks like, with one addition: every side effect leaves a row in a ledger, written by
a transactional activity. The row and the activity's result commit together, so a dispatcher that is killed in between
leaves neither, and the next attempt writes the row. A second row for the same effect would break its primary key.
"""

import asyncio
import os
import time
from datetime import timedelta
from typing import Any, Final

from continuum.cli.demo_terms import AMOUNT, LEASE_TTL, SCHEMA, SCHEMA_VARIABLE
from continuum.client.instance import Continuum
from continuum.declare.activities import activity
from continuum.declare.attempts import current_attempt
from continuum.declare.signals import Signal
from continuum.declare.workflows import workflow
from continuum.errors import PermanentError
from continuum.model.policies import Retry

__all__ = ["charge", "continuum", "fraud_review", "order_flow", "prepare_ledger", "read_ledger"]

_LEDGER: Final = f'"{os.environ.get(SCHEMA_VARIABLE, SCHEMA)}".demo_ledger'

continuum = Continuum(
    schema=os.environ.get(SCHEMA_VARIABLE, SCHEMA),
    concurrency=3,
    # A killed dispatcher's runs are taken over this fast; a real one would not be this nervous.
    lease_ttl=LEASE_TTL,
    heartbeat_interval=timedelta(seconds=1),
    poll_interval=timedelta(seconds=0.5),
    reap_interval=timedelta(seconds=0.5),
)
fraud_review = Signal("fraud_review", str)
_RETRY: Final = Retry(max_attempts=5, base=timedelta(milliseconds=200))


@activity(name="demo.validate", retry=_RETRY)
def validate(order: str) -> int:
    """Check an order and return what it costs."""
    time.sleep(0.2)
    if not order:
        raise PermanentError("an order needs a name")
    return AMOUNT


@activity(name="demo.charge", retry=_RETRY, transactional=True)
def charge(order: str, amount: int, *, connection: Any = None) -> str:
    """Take the money. Slow, as payment providers are: the demo kills the dispatcher in the middle of some."""
    _write(connection, order, "charge", f"{amount} EUR")
    time.sleep(1.2)
    return f"payment-{order}"


@activity(name="demo.ship", retry=_RETRY, transactional=True)
def ship(order: str, *, connection: Any = None) -> str:
    """Hand the parcel to the carrier."""
    _write(connection, order, "ship", "one parcel")
    time.sleep(0.8)
    return f"label-{order}"


@activity(name="demo.notify", retry=_RETRY, transactional=True)
def notify(order: str, *, connection: Any = None) -> None:
    """Write to the customer."""
    _write(connection, order, "notify", "an e-mail")
    time.sleep(0.4)


@workflow(name="demo.order", version=1)
async def order_flow(order: str, patience: float) -> str:
    """Check, charge, wait for a review (but not for ever), then ship and notify at the same time."""
    amount = await validate(order)
    payment = await charge(order, amount)
    try:
        decision = await fraud_review.wait(timeout=timedelta(seconds=patience))
    except TimeoutError:
        decision = "approved by timeout"
    label, _ = await asyncio.gather(ship(order), notify(order))
    return f"{decision}: {payment}, {label}"


# ------------------------------------------------------------------ the ledger


@activity(name="demo.create_ledger", transactional=True)
def create_ledger(*, connection: Any = None) -> None:
    """Make the table."""
    _execute(
        connection,
        f"create table if not exists {_LEDGER} (order_id text, effect text, detail text not null,"
        " attempt integer not null, pid integer not null, primary key (order_id, effect))",
    )


@activity(name="demo.select_ledger", transactional=True)
def select_ledger(batch: str, *, connection: Any = None) -> list[tuple[str, str, str, int, int]]:
    """Read the rows of one demonstration."""
    rows = _execute(
        connection,
        f"select order_id, effect, detail, attempt, pid from {_LEDGER} where order_id like %s order by 1, 2",  # noqa: S608
        (f"{batch}-%",),
    )
    return [tuple(row) for row in rows]


@workflow(name="demo.prepare", version=1)
async def prepare_ledger() -> None:
    """Make the ledger: that, too, is a run."""
    await create_ledger()


@workflow(name="demo.report", version=1)
async def read_ledger(batch: str) -> list[tuple[str, str, str, int, int]]:
    """Return the ledger's rows: order, effect, detail, attempt that wrote it, process that wrote it."""
    return await select_ledger(batch)


def _write(connection: Any, order: str, effect: str, detail: str) -> None:
    _execute(
        connection,
        f"insert into {_LEDGER} (order_id, effect, detail, attempt, pid) values (%s, %s, %s, %s, %s)",  # noqa: S608
        (order, effect, detail, current_attempt().number, os.getpid()),
    )


def _execute(connection: Any, statement: str, values: tuple[Any, ...] = ()) -> Any:
    result = connection.exec_driver_sql(statement, values)
    return result.fetchall() if result.returns_rows else []
