import decimal
import fractions
import math
import statistics
from decimal import Decimal

from continuum import workflow

from .support import charge, round_cents


@workflow(name="ordinary.decimals")
async def decimals(amounts: list[str]) -> dict[str, str]:
    values = [Decimal(amount) for amount in amounts]
    with decimal.localcontext() as context:
        context.prec = 10
        share = sum(values) / len(values)
    total = round_cents(sum(values, Decimal(0)))
    await charge("all", str(total))
    return {
        "share": str(share),
        "root": f"{math.sqrt(total):.3f}",
        "median": str(statistics.median(values)),
        "part": str(fractions.Fraction(1, 3)),
        "ceil": str(math.ceil(total)),
    }
