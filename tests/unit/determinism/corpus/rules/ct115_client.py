from celery import Celery, chain, group

from continuum import Continuum, RunHandle, activity, start_child

from ..flows import child_flow

app = Celery("corpus", broker="memory://")


@app.task
def charge(order):
    return order


charge_activity = activity.from_celery(charge)
continuum = Continuum("memory://")


async def bad_client(order):
    continuum.start(child_flow, order)  # !CT115
    continuum.signal("run", "approved", 1)  # !CT115
    continuum.cancel("run")  # !CT115
    continuum.get("run")  # !CT115
    Continuum("memory://")  # !CT115


async def bad_handle(handle: RunHandle):
    handle.signal("approved", 1)  # !CT115
    return handle.result()  # !CT115


async def bad_celery(order):
    charge.delay(order)  # !CT115
    charge.apply_async([order])  # !CT115
    app.send_task("charge", [order])  # !CT115
    group(charge.s(order))()  # !CT115 !CT115


async def good_children(order):
    await child_flow(order)
    handle = await start_child(child_flow, order)
    await handle.signal("approved", 1)
    return await charge_activity(order)
