"""The queue that hands out the actions of a chunk one call after another."""

import numpy as np
import pytest

from kilolayer.errors import ConfigurationError
from kilolayer.policies.action_queue import ActionQueue

CHUNK, ACTION = 3, 2


def chunks_of(number, batch=(2,)):
    return number + np.broadcast_to(np.arange(CHUNK * ACTION) / 10, (*batch, CHUNK * ACTION))


def test_robots_of_a_batch_begin_anew_by_themselves():
    queue = ActionQueue(CHUNK)
    np.testing.assert_allclose(queue.next((2,), lambda: chunks_of(0)), [[0.0, 0.1]] * 2)
    queue.reset([True, False])
    np.testing.assert_allclose(queue.next((2,), lambda: chunks_of(1)), [[1.0, 1.1], [0.2, 0.3]])
    with pytest.raises(ConfigurationError, match=r"ended has shape \(3,\); the robots of the last call are \(2,\)"):
        queue.reset([True, False, True])


def test_another_batch_begins_anew():
    queue = ActionQueue(CHUNK)
    queue.next((2,), lambda: chunks_of(0))
    np.testing.assert_allclose(queue.next((), lambda: chunks_of(1, ())), [1.0, 1.1])
    np.testing.assert_allclose(queue.next((2,), lambda: chunks_of(2)), [[2.0, 2.1]] * 2)
