"""Checksums of the arrays of a checkpoint, also of arrays that are spread over several processes.

An array of one process has a number. Of an array that several processes share, each computes the number of its own part
along one axis: then a checksum is the axis and these numbers, in the order of the parts.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kilolayer.hosts import from_each_process

Checksum = int | Mapping[str, Any]


def checksums_of(arrays: Mapping[str, Any]) -> dict[str, Checksum]:
    """Return the checksum of each array, the same in all processes."""
    found: dict[str, Checksum] = {
        name: zlib.crc32(array.data) for name, array in arrays.items() if isinstance(array, np.ndarray)
    }
    shared = {name: _own_part(array) for name, array in arrays.items() if name not in found}
    if shared:
        of_each = from_each_process(np.array([_crc(part) for _, part in shared.values()], np.uint32))
        for place, (name, (axis, _)) in enumerate(shared.items()):
            found[name] = {"axis": axis, "parts": [int(number) for number in of_each[:, place]]}
    return found


def agrees(array: np.ndarray, checksum: Checksum) -> bool:
    """Return whether a whole array is the one that a checksum was computed of."""
    if isinstance(checksum, int):
        return _crc(array) == checksum
    parts = np.split(array, len(checksum["parts"]), checksum["axis"])
    return all(_crc(part) == number for part, number in zip(parts, checksum["parts"], strict=True))


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _own_part(array: Any) -> tuple[int, np.ndarray]:
    """Return the axis that an array is spread over, and the part of this process."""
    axis = next(place for place, name in enumerate(array.sharding.spec) if name is not None)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[axis].start or 0)
    return axis, np.concatenate([np.asarray(shard.data) for shard in shards], axis=axis)
