"""Whether a run can be cut into equal shards, and these be spread over devices."""

from kilolayer.agents import agent_spec
from kilolayer.errors import ConfigurationError
from kilolayer.runs.config import TrainConfig
from kilolayer.settings import MOST_STEPS, check_count

CUT = ("num_envs", "batch_size", "num_eval_envs")
"""Settings that are cut into as many parts as there are shards."""


def check_shards(config: TrainConfig) -> None:
    """Validate that everything can be cut into equal shards, and the shards be spread over the devices.

    Raises:
        ConfigurationError: naming the field, its value and what would be valid.
    """
    count, devices = config.num_shards, config.devices
    asked = "devices" if config.shards is None else "shards"
    check_count(asked, count, least=1, most=MOST_STEPS)
    if count % devices:
        raise ConfigurationError(
            f"shards={count} cannot be spread over devices={devices}; take a multiple of {devices}"
        )
    if config.dataset is not None and count > 1:
        raise ConfigurationError(
            f"{asked}={count} and dataset={config.dataset!r} exclude each other: a data set is one ring of a replay "
            "buffer; leave one of them out, or train seeds on the devices"
        )
    for name in CUT:
        value = getattr(config, name)
        if value % count:
            below, above = value // count * count, -(-value // count) * count
            fitting = f"{below} or {above}" if below else f"{above}"
            raise ConfigurationError(f"{name}={value} cannot be cut into {asked}={count} equal parts; take {fitting}")
    if config.overlap and devices > 1:
        raise ConfigurationError(f"overlap=True and devices={devices} exclude each other: leave one of them out")
    if count > 1 and config.shards is not None and agent_spec(config.agent).on_policy:
        raise ConfigurationError(
            f"shards={count} has no effect with agent={config.agent!r}, which learns from its newest steps alone; "
            "leave it out"
        )
