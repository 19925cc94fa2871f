"""Small data sets for tests, in which every number tells its episode and its step."""

import numpy as np

from kilolayer.data.datasets import Dataset

OBSERVATION, GOAL, ACTION = 3, 2, 2


def numbered(lengths, *, failed=(), goals=True, environment=None) -> Dataset:
    """Return episodes of so many rows each.

    Row t of episode e observes [e, t, e + t / 100], achieves [e, t] and is to reach [e, -1]; its action is
    [e / 100, t / 100].
    """
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    last = np.concatenate([np.arange(length) == length - 1 for length in lengths])
    e, t = episode.astype(np.float32), step.astype(np.float32)
    return Dataset(
        observation=np.stack([e, t, e + t / 100], axis=1),
        action=np.stack([e, t], axis=1) / np.float32(100),
        last=last,
        failed=last & np.isin(episode, failed),
        achieved_goal=np.stack([e, t], axis=1) if goals else None,
        desired_goal=np.stack([e, -np.ones_like(e)], axis=1) if goals else None,
        environment=environment,
    )


def raw_file(path, lengths, **more):
    """Write episodes as OGBench's own files are; return the arrays."""
    data = numbered(lengths)
    arrays = {
        "observations": data.observation,
        "actions": data.action,
        "terminals": data.last.astype(np.float32),
    } | more
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def same(a: Dataset, b: Dataset) -> None:
    """Check that two data sets are the same, but for actions that mean nothing."""
    assert (a.environment, a.episodes, a.rows) == (b.environment, b.episodes, b.rows)
    for name in ("observation", "last", "failed", "achieved_goal", "desired_goal"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
    np.testing.assert_array_equal(a.action[~a.last], b.action[~b.last])
