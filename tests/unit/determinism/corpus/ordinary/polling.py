import math
from datetime import timedelta

from continuum import ActivityFailed, ActivityTimedOut, now, sleep, workflow

from .support import charge, fetch, notify


@workflow(name="ordinary.polling")
async def polling(job: int, patience: int) -> dict | None:
    delay, deadline, tries = timedelta(seconds=1), now() + timedelta(seconds=patience), 0
    while (page := await fetch(job)) and not page["items"]:
        tries += 1
        if now() > deadline or tries > 1000:
            return None
        await sleep(delay)
        delay = min(delay * 2, timedelta(minutes=5))
    else:
        await notify("never empty")
    for attempt in range(3):
        try:
            await charge.options(queue="slow", timeout=timedelta(seconds=2**attempt))(str(job), "1")
        except (ActivityFailed, ActivityTimedOut) as error:
            if attempt == 2:
                raise RuntimeError("gave up") from error
            await sleep(math.pow(2, attempt))
        else:
            break
        finally:
            tries += 1
    return page
