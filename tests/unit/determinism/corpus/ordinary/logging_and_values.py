import logging
import random as dice
import uuid

from continuum import in_workflow, log, now, patched, random, run_info, side_effect, uuid4, workflow

from .support import charge

logger = logging.getLogger(__name__)


def pick(number: float) -> int:
    return int(number * 10)


def read_setting() -> str:
    import os

    return os.environ.get("SETTING", "")


@workflow(name="ordinary.values")
async def values(order: str) -> str:
    log.info("begin %s", order, extra={"order": order})
    log.log(logging.WARNING, "started at %s", now())
    key = uuid.uuid5(uuid.NAMESPACE_OID, order)
    generator = dice.Random(order)
    generator.shuffle([1, 2, 3])
    setting = side_effect(read_setting)
    inline = side_effect(lambda: uuid.uuid4().hex)
    if patched("charge twice"):
        await charge(order, "2")
    info = run_info()
    return f"{pick(random())} {uuid4()} {key} {setting} {inline} {info.run_id} {in_workflow()}"
