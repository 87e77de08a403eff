from dataclasses import dataclass

from continuum import Signal, continue_as_new, publish, set_attributes, workflow

from .support import notify


@dataclass
class Move:
    piece: str
    to: str


moves = Signal("ordinary_moves", Move)


@workflow(name="ordinary.signals", signals=[moves])
async def signals(board: dict[str, str], played: int = 0) -> dict[str, str]:
    while True:
        move = await moves.wait()
        if move.piece == "resign":
            break
        board[move.piece] = move.to
        played += 1
        set_attributes({"played": played})
        publish({"board": board})
        if played % 100 == 0:
            await continue_as_new(board, played)
    await notify(f"{played} moves")
    return board
