"""Keys of a run: streams for different purposes share no key."""

import itertools

import jax
import numpy as np

from kilolayer.training.keys import stream


def test_no_stream_gives_a_key_of_another_or_of_the_training_step():
    key = jax.random.key(7)
    steps = (0, 1, 2, 3, 40, 2**32 - 1, 2**32, 2**32 + 1, 2**40)
    keys = [stream(key, name, step) for name, step in itertools.product(("evaluation", "growth", "diagnostics"), steps)]
    keys += [key, *jax.random.split(key, 64)]
    found = {tuple(np.asarray(jax.random.key_data(each)).tolist()) for each in keys}
    assert len(found) == len(keys)
