import traceback

from continuum import ActivityFailed, workflow

from .support import charge, notify


class OrderError(Exception):
    def __init__(self, order: str, *reasons: str) -> None:
        super().__init__(f"{order}: {', '.join(reasons)}")
        self.order = order
        self.reasons = reasons


class Rejected(OrderError):
    pass


def require(condition: object, order: str, reason: str) -> None:
    if not condition:
        raise Rejected(order, reason)


@workflow(name="ordinary.errors")
async def errors(order: str) -> str:
    try:
        require(order.isidentifier(), order, "name")
        await charge(order, "1")
    except Rejected as error:
        await notify(str(error.reasons))
        return error.order
    except (ActivityFailed, TimeoutError) as error:
        error.add_note("while charging")
        raise OrderError(order, "charge") from error
    except Exception as error:
        await notify("".join(traceback.format_exception_only(error)))
        raise
    else:
        return "ok"
    finally:
        order = order.strip()
