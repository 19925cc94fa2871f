"""What a compiled program or the memory fails with, in one line."""

import sys

HOST_ERROR = "CpuCallback error calling callback"
"""How JAX calls the error of a function that a compiled program called on the host."""


def device_error(error: BaseException) -> str | None:
    """Return the cause of a failure of a compiled program, such as an engine's error or a lack of memory, in one line.

    Args:
        error: any error.

    Returns:
        The cause; None if no compiled program failed, and memory was not exhausted.
    """
    if isinstance(error, MemoryError):
        return f"memory is exhausted ({error})" if str(error) else "memory is exhausted"
    jax = sys.modules.get("jax")
    text = str(error).strip()
    # JAX raises what a function on the host failed with as one of several types.
    if jax is None or not (isinstance(error, jax.errors.JaxRuntimeError) or HOST_ERROR in text):
        return None
    lines = text.splitlines() or ["no reason is given"]
    frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
    if not frames:
        return lines[0]
    # A function on the host raised: its error follows the traceback.
    return " ".join(lines[frames[-1] + 1 :]).strip() or lines[0]
