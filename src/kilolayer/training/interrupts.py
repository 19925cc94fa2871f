"""Ctrl-C, SIGTERM and a lost terminal (SIGHUP) as a request to stop after the current training step."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """A context that records the signals that end a program in `signal`; a second one has its usual effect at once."""

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
    """Windows has no SIGHUP."""

    def __init__(self) -> None:
        """Start without a request."""
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Replace the handlers of the signals; those that are ignored, as `nohup` ignores SIGHUP, stay ignored.

        Outside the main thread, where Python allows no handlers, do nothing.
        """
        if threading.current_thread() is threading.main_thread():
            caught = [number for number in self.SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._handle) for number in caught}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
