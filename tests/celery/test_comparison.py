"""The same orders as a chord and a chain, and as a workflow, when something goes wrong: who loses what.

The example does it (``python -m examples.celery_shop compare``); here its figures are judged.
"""

import shutil

import pytest

from examples.celery_shop.compare import COLUMNS, compare, table_of

PLAIN, _, WORKFLOW = COLUMNS
ORDERS = 20
# Longer than a lease of the example's (six seconds) and the ten seconds after which a queue is asked about.
QUIET = 25.0


@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_killed_worker_and_a_flushed_broker_stop_canvas_and_delay_workflows() -> None:
    found = compare("redis", orders=ORDERS, quiet=QUIET, columns=(PLAIN, WORKFLOW))
    said = table_of(found)
    assert len(found) == 2, said
    for columns in found.values():
        plain, workflow = columns[PLAIN], columns[WORKFLOW]
        assert plain.lost > 0, said
        assert plain.finished + plain.lost == plain.placed == ORDERS, said
        assert plain.finished_at_last == ORDERS, said  # placed again; nothing is wrong with the shop itself
        assert workflow.finished == workflow.placed == ORDERS, said
        assert workflow.charged_twice == 0, said
