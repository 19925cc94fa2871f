"""Keys of a run: a stream of randomness for each purpose.

`jax.random.fold_in(key, i)` equals the i-th of `jax.random.split(key, n)`, so small numbers folded into the key of a
seed would give the same keys as the training step draws. A stream folds in its name first.
"""

import zlib

import jax
from jaxtyping import PRNGKeyArray

_WORD = 2**32


def stream(key: PRNGKeyArray, name: str, step: int = 0) -> PRNGKeyArray:
    """Return the key of a purpose at a point of a run.

    Args:
        key: of the seed.
        name: of the purpose.
        step: of the run, below 2**64.
    """
    for word in (zlib.crc32(name.encode()), step // _WORD, step % _WORD):
        key = jax.random.fold_in(key, word)
    return key
