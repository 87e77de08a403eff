"""Here lives the one shape every background service has.

A service is a thread around ``run_once()``: do what there is to do now, and say how long it may sleep. Tests call
``run_once()`` directly and need no thread. Errors never end a service: a journal that is away is waited for with a
growing pause, anything else is logged with its traceback and tried again.
"""

import logging
import math
import threading
import time

from continuum.errors import JournalUnavailable

__all__ = ["Service"]

logger = logging.getLogger("continuum.runtime")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Service:
    """A named loop on its own thread.

    Subclasses implement :meth:`run_once`. ``wake()`` cuts the present sleep short, from any thread.

    :ivar away_at: when (monotonic) the journal was last found away.
    """

    name = "service"
    longest_pause = _LONGEST_PAUSE

    def __init__(self) -> None:
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pause = _FIRST_PAUSE
        self.away_at = -math.inf

    def run_once(self) -> float | None:
        """Do what there is to do; return how many seconds to sleep at most, None to sleep until woken."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._loop, name=f"continuum-{self.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Run again soon."""
        self._bell.set()

    def stop(self, timeout: float | None = 10.0) -> bool:
        """Ask the loop to end and wait; return whether it did in time."""
        self._stopping.set()
        self._bell.set()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopping.is_set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._bell.clear()
            if self._stopping.is_set():
                break  # said between the two lines above: its ring is lost
            delay = self._guarded_pass()
            self._bell.wait(delay)

    def _guarded_pass(self) -> float | None:
        try:
            delay = self.run_once()
        except JournalUnavailable as error:
            self.away_at = time.monotonic()
            logger.warning("%s: the journal is away (%s); next try in %.1f s", self.name, error, self._pause)
        except Exception:
            logger.exception("%s: unexpected error; next try in %.1f s", self.name, self._pause)
        else:
            self._pause = _FIRST_PAUSE
            return delay
        pause, self._pause = self._pause, min(self._pause * 2, self.longest_pause)
        return pause
