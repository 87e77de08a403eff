"""Activities and children that the corpus uses."""

from continuum import activity, workflow


@activity(name="corpus.charge")
def charge(order: str) -> str:
    return order


@activity(name="corpus.refund")
def refund(order: str) -> str:
    return order


@activity(name="corpus.ship")
def ship(order: str) -> str:
    return order


@workflow(name="corpus.child")
async def child_flow(order: str) -> str:
    return await charge(order)
