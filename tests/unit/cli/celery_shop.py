"""Here live the apps that tests of ``celery -A … continuum`` name."""

from celery import Celery

from continuum import Continuum, activity, workflow
from continuum.declare.registry import Registry

__all__ = ["URL", "app", "bare", "continuum", "one", "several", "two"]

URL = "memory://tests.unit.cli.celery_shop"
NOBODY = "redis://:secret@127.0.0.1:1/0"

app = Celery("shop", broker=NOBODY, set_as_current=False)
# Other tests declare activities as well, in the registry of the process.
registry = Registry()
continuum = Continuum(URL, executor="celery", name="shop", registry=registry).init_celery(app)

bare = Celery("bare", broker=NOBODY, set_as_current=False)

several = Celery("several", broker=NOBODY, set_as_current=False)
one = Continuum(URL, executor="celery", name="one").init_celery(several)
two = Continuum(f"{URL}.two", executor="celery", name="two").init_celery(several)


@app.task(name="celery_shop.charge")
def charge(order: str) -> str:
    return order


app.conf.task_routes = {"celery_shop.charge": {"queue": "bank"}}
charge_order = activity.from_celery(charge)


@activity(name="celery_shop.pack")
def pack(text: str) -> str:
    return text


@activity(name="celery_shop.stamp", executor="local")
def stamp(text: str) -> str:
    return text


@workflow(name="celery_shop.order")
async def order_flow(order: str) -> str:
    return await charge_order(order)


for known in (charge_order, pack, stamp):
    registry.register_activity(known)
registry.register_workflow(order_flow)
