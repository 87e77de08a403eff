import tests.unit.determinism.corpus.ordinary.support as shared
from continuum import workflow

from . import support
from .support import Item as Line


async def settle(order: str, *lines: Line, country: str = "de", **extra: str) -> str:
    amount = shared.gross(lines, country)
    return await support.charge(order, str(amount))


@workflow(name="ordinary.helpers_elsewhere")
async def helpers_elsewhere(order: str, lines: list[Line]) -> str:
    from decimal import Decimal

    cheap = [line.discounted(10) for line in lines if line.total < Decimal(100)]
    return await settle(order, *cheap, country="fr", note="x")
