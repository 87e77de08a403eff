"""Here lives the log effect: a logger whose lines appear once, however often the code is replayed."""

import traceback
from typing import Any, Final

from continuum.replay.effects.base import current_loop
from continuum.replay.texts import spell

__all__ = ["WorkflowLog", "log"]

# The levels of the standard library's logging.
_DEBUG: Final = 10
_INFO: Final = 20
_WARNING: Final = 30
_ERROR: Final = 40
_CRITICAL: Final = 50


class WorkflowLog:
    """Takes lines as a standard logger does. They are emitted once, after the commit of the turn that logged them.

    Every method raises ``NotInWorkflow`` outside of workflows. ``extra`` becomes fields of the line.
    """

    __slots__ = ()

    def debug(self, message: object, *args: object, **options: Any) -> None:
        """Log at level DEBUG."""
        self.log(_DEBUG, message, *args, **options)

    def info(self, message: object, *args: object, **options: Any) -> None:
        """Log at level INFO."""
        self.log(_INFO, message, *args, **options)

    def warning(self, message: object, *args: object, **options: Any) -> None:
        """Log at level WARNING."""
        self.log(_WARNING, message, *args, **options)

    def error(self, message: object, *args: object, **options: Any) -> None:
        """Log at level ERROR."""
        self.log(_ERROR, message, *args, **options)

    def critical(self, message: object, *args: object, **options: Any) -> None:
        """Log at level CRITICAL."""
        self.log(_CRITICAL, message, *args, **options)

    def exception(self, message: object, *args: object, **options: Any) -> None:
        """Log at level ERROR, with the traceback of the exception being handled."""
        self.log(_ERROR, message, *args, **{"exc_info": True, **options})

    def log(
        self,
        level: int,
        message: object,
        *args: object,
        exc_info: BaseException | bool | tuple[Any, Any, Any] | None = None,
        extra: dict[str, object] | None = None,
        stack_info: bool = False,  # noqa: ARG002 - accepted as the standard library does
        stacklevel: int = 1,  # noqa: ARG002
    ) -> None:
        """Log at any level; ``stack_info`` and ``stacklevel`` are accepted and ignored."""
        loop = current_loop("log")
        # On replay, too: what is wrong with it is raised each time or never.
        fields = dict(extra) if extra else {}
        if not loop.is_logging:
            return
        text = spell(loop.ledger, lambda: _formatted(message, args))
        if exc_info:
            text += "\n" + spell(loop.ledger, lambda: _traceback(exc_info))
        loop.log(level, text, fields)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802, ARG002 - the standard library's name
        """Whether a line logged now would appear: False while replaying."""
        return current_loop("log").is_logging


def _formatted(message: object, args: tuple[object, ...]) -> str:
    text = str(message)
    if not args:
        return text
    # One mapping serves %(name)s, as in the standard library.
    values: Any = args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args
    try:
        return str(text % values)
    except Exception:  # noqa: BLE001 - an argument's __str__ may raise anything
        # A line about a mistake in a format is better than a run that fails for it.
        return f"{text} {args!r}"


def _traceback(exc_info: object) -> str:
    if isinstance(exc_info, BaseException):
        return "".join(traceback.format_exception(exc_info)).rstrip()
    return traceback.format_exc().rstrip()


log: Final = WorkflowLog()
