"""Runs of format 1, which kilolayer 0.1.0 wrote: their policies are read, but they cannot be resumed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kilolayer.agents import agent_spec
from kilolayer.errors import ConfigurationError
from kilolayer.nn import torso_spec

TORSO = "residual_mlp"
"""The only kind of network in format 1."""

BLOCKS = ("crl", "crl_discrete", "sac", "td3", "her", "gcbc", "gcsl", "ppo", "c_learning", "qrl")
"""The blocks of agents in format 1. Every config.json had all of them."""

READS: dict[str, tuple[str, ...]] = {
    "crl_discrete": ("crl", "crl_discrete"),
    "sac_her": ("sac", "her"),
    "td3_her": ("td3", "her"),
}
"""The blocks that an agent read in format 1; agents that are not listed read the block of their own name."""

RENAMED = {("crl_discrete", "temperature"): "policy_temperature", ("her", "ratio"): "relabel_ratio"}
"""Settings that have another name since format 2, by block and old name."""


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run of format 1 as those of format 2.

    Args:
        settings: the contents of config.json, without `format`.

    Raises:
        ConfigurationError: if the agent is unknown, or a block is none.
    """
    upgraded = {name: value for name, value in settings.items() if name not in BLOCKS}
    spec = agent_spec(str(settings.get("agent")))
    known = {field.name for field in dataclasses.fields(spec.settings)}
    blocks = READS.get(spec.name, (spec.name,))
    block: dict[str, Any] = {}
    for name in blocks:
        block |= {RENAMED.get((name, field), field): value for field, value in _block(settings, name).items()}
    # An agent that read two blocks did not read all of the first.
    upgraded[spec.name] = {name: value for name, value in block.items() if name in known or len(blocks) == 1}
    upgraded["torso"] = TORSO
    architecture = dict(_block(settings, "architecture"))
    if "checkpoint" in architecture and "remat" in {
        each.name for each in dataclasses.fields(torso_spec(TORSO).settings)
    }:
        architecture["remat"] = architecture.pop("checkpoint")
    upgraded["architecture"] = architecture
    return upgraded


def _block(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = settings.get(name, {})
    if not isinstance(block, Mapping):
        raise ConfigurationError(f"{name}={block!r} must be settings by name")
    return block
