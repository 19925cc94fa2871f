"""Imports that Ctrl-C does not cut in two: a library in C that is interrupted prints a traceback of its own."""

import importlib
import signal
import threading
from types import FrameType, ModuleType


def import_whole(name: str) -> ModuleType:
    """Import a module; Ctrl-C waits until that is done, and a second one does not wait.

    Args:
        name: of the module.

    Returns:
        The module.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    previous = signal.getsignal(signal.SIGINT)
    # Outside the main thread Python allows no handlers; one of somebody else stays.
    if previous is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        return importlib.import_module(name)
    interrupted = False

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, wait)
    try:
        module = importlib.import_module(name)
    finally:
        signal.signal(signal.SIGINT, previous)
        if interrupted:
            raise KeyboardInterrupt
    return module
