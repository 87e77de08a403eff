import datetime as dtm
import time
import time as clockwork
from datetime import date, datetime
from datetime import datetime as d
from time import monotonic, perf_counter

import continuum

from . import helpers
from .helpers import deep, stamp


async def bad_wall_clock():
    return datetime.now()  # !CT101


async def bad_all_spellings():
    return (
        d.now(),  # !CT101
        dtm.datetime.utcnow(),  # !CT101
        dtm.date.today(),  # !CT101
        date.today(),  # !CT101
        datetime.today(),  # !CT101
        time.time(),  # !CT101
        time.time_ns(),  # !CT101
        clockwork.monotonic(),  # !CT101
        monotonic(),  # !CT101
        perf_counter(),  # !CT101
        time.process_time(),  # !CT101
        time.gmtime(),  # !CT101
        time.strftime("%Y"),  # !CT101
    )


async def bad_imported_inside():
    import time as t
    from datetime import datetime as when

    return t.time(), when.now()  # !CT101 !CT101


async def bad_bound_to_a_local():
    now = datetime.now  # !CT101
    return now()  # !CT101


async def bad_default_argument():
    def later(at=time.time()):  # !CT101
        return at

    return later()


async def bad_in_comprehension_lambda_and_guard(items):
    stamps = [time.time() for _ in items]  # !CT101
    ask = lambda: datetime.now()  # !CT101
    match items:
        case [first, *_] if first > time.time():  # !CT101
            return first
    return stamps, ask()


async def bad_through_helpers():
    return stamp(), helpers.stamp(), deep(1)


class Invoice:
    def __init__(self, total):
        self.total = total

    def stamped(self):
        return self.total, self._now()

    def _now(self):
        return datetime.now()  # !CT101


async def bad_through_methods(total):
    invoice = Invoice(total)
    return invoice.stamped()


async def good_now():
    return continuum.now(), continuum.today()


async def good_arithmetic(start: datetime):
    parsed = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
    return start + dtm.timedelta(days=1), parsed, datetime.combine(start.date(), dtm.time(12)), time.gmtime(0)


async def good_own_names():
    class datetime:  # noqa
        @staticmethod
        def now():
            return 1

    def monotonic():
        return 2

    return datetime.now(), monotonic()


async def good_parameter(time):
    return time.time()
