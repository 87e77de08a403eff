import calendar
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from continuum import now, sleep, today, workflow

from .support import next_working_day, notify

BERLIN = timezone(timedelta(hours=1), "Berlin")
NINE = time(9, 0)


@workflow(name="ordinary.dates")
async def dates(deadline: datetime) -> str:
    started = now()
    due = min(deadline, started + timedelta(hours=8))
    while now() < due:
        await sleep(timedelta(hours=1))
    morning = datetime.combine(today() + timedelta(days=1), NINE, tzinfo=BERLIN)
    local = morning.astimezone(UTC).replace(microsecond=0)
    day = next_working_day(local)
    parsed = datetime.fromisoformat("2024-02-29T12:00:00+00:00")
    last = calendar.monthrange(day.year, day.month)[1]
    await notify(f"{day:%Y-%m-%d} {parsed.isoformat()} {(parsed - started).total_seconds():.0f}s {last}")
    return f"{date(2024, 2, 29).isoformat()} {local.timestamp()} {parsed.astimezone(ZoneInfo('Europe/Berlin'))}"
