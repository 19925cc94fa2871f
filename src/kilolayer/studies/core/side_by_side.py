"""How many cases of a study share a GPU."""

from collections.abc import Sequence

from kilolayer.machine import cpu_cores
from kilolayer.memory import device_memory
from kilolayer.nn.remat import SHARE
from kilolayer.runs import TrainConfig
from kilolayer.training import Setup
from kilolayer.training.memory import run_bytes

USED = 0.9
"""Share of the memory of a GPU that all processes take together; their programs need the rest."""

CORES = 4
"""Cores of the host for each process: physics on the host, and what prepares the next program."""


def jobs_that_fit(
    configs: Sequence[TrainConfig], seeds: int, *, memory: int | None = None, cores: int | None = None
) -> int:
    """Return how many cases to train at once on the device, each in a process of its own.

    A process fills the gaps of another, between two programs and while physics runs on the host. Each needs the memory
    of its state and of its activations, for which the choice of rematerialisation leaves a share of the device's.

    Args:
        configs: of all cases.
        seeds: of each case, which are trained together.
        memory: bytes of the device; None asks it.
        cores: of the host; None asks it.

    Returns:
        At least 1, and at most the number of cases.
    """
    memory = device_memory() if memory is None else memory
    cores = cpu_cores() if cores is None else cores
    if memory is None:
        return 1
    state = max(sum(run_bytes(Setup.build(config, seeds=seeds), config, seeds=seeds).values()) for config in configs)
    fitting = int(USED * memory / (state + SHARE * memory))
    return max(1, min(fitting, cores // CORES, len(configs)))
