"""Process-wide settings of the command line: the compilation cache, and what is printed of choices and failed saves.

Library calls change nothing in their process. The command line, and processes that are made to train one case of a
study, call `set_up_process` once. A program that uses the library calls it too if it wants the same.
"""

import logging
import signal
import sys
import threading
import warnings

from kilolayer.compilation_cache import enable_compilation_cache
from kilolayer.errors import short_line

AGAIN_SECONDS = 0.05
"""After which a Ctrl-C that Python dropped comes again."""


def set_up_process() -> None:
    """Keep compiled programs on disk, and print choices of the library and failed saves as one line each.

    Further calls change nothing.
    """
    enable_compilation_cache()
    log = logging.getLogger("kilolayer")
    if not any(isinstance(handler, _OneLine) for handler in log.handlers):
        log.addHandler(_OneLine())
        log.setLevel(logging.INFO)
    # The library raises what Orbax and JAX's callbacks log.
    for name in ("absl", "jax._src.callback"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_not_an_abandoned_write)
    warnings.formatwarning = _one_line_warning
    _hook_into_unraisable_errors()


class _OneLine(logging.Handler):
    """Prints what the library says of its choices, such as the engine that it takes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record on standard error, whichever stream that is now."""
        print(f"kilolayer: {short_line(record.getMessage())}", file=sys.stderr, flush=True)


def _one_line_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning without the line of code that it came from."""
    return f"kilolayer: warning: {short_line(str(message))}\n"


def _hook_into_unraisable_errors() -> None:
    """Let Ctrl-C through where Python drops it, such as in JAX's callback of the garbage collector, and print no
    traceback for reads and writes that TensorStore completes after Orbax gave up.
    """
    previous = sys.unraisablehook
    if previous.__module__ == __name__:
        return

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # to the main thread, which it wakes from what it waits for
            again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
            again.daemon = True
            again.start()
        elif str(unraisable.exc_value) != "Event loop is closed":
            previous(unraisable)

    sys.unraisablehook = hook


def _is_not_an_abandoned_write(record: logging.LogRecord) -> bool:
    """Return whether a record of asyncio is about something else: of several failed writes, Orbax raises the first."""
    message = record.getMessage()
    abandoned = message.startswith(("Task exception was never retrieved", "Future exception was never retrieved"))
    return not (abandoned and ("orbax" in message or "OCDBT" in message))
