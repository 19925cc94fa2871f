"""The preset `ogbench`: settings of the published runs on the data sets of OGBench (Park et al., 2024, appendix C).

What differs: networks have residual blocks, four layers in place of three, and the actor of `crl` has the goals of its
critic, whose distance is geometric, in place of goals that are as likely near as far.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kilolayer.runs.presets import register_named_preset

NAME = "ogbench"

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "batch_size": 1024,
        "width": 512,
        "depth": 4,
        "gradient_steps_per_unroll": 1000,
        "total_gradient_steps": 1_000_000,
        "num_evals": 10,
        "num_eval_envs": 250,
    }
)
"""Of every run: Adam with 3e-4, which is the default of every agent; five tasks with 50 episodes each."""

CRL: Mapping[str, Any] = MappingProxyType(
    {
        "energy": "dot",
        "temperature": 512**0.5,
        "representation_size": 512,
        "loss": "binary_nce",
        "logsumexp_penalty": 0.0,
        "critics": 2,
    }
)

MAZES, SIZES = ("pointmaze", "antmaze", "humanoidmaze"), ("medium", "large", "giant", "teleport")

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"pointmaze": 0.03, "antmaze": 0.1, "humanoidmaze": 0.1, "antsoccer": 0.3}
)
"""Of imitating the data in `crl`, by the first word of an environment; all others have that of the arms."""

OF_ARMS = 3.0
"""The same for the data sets `play` of arms; those called `noisy` take 0.1, `antmaze-explore` 0.003."""

PROMISE = "settings of the published runs; hours on a GPU"


def settings_of(env: str) -> dict[str, Any]:
    """Return the settings of an environment, with those of every agent that was published.

    Args:
        env: its name without the prefix and the version, such as `antmaze-giant`.
    """
    kind = env.partition("-")[0]
    discount = 0.995 if kind == "humanoidmaze" or env.endswith("-giant") else 0.99
    points = kind == "pointmaze"
    return {
        **SETTINGS,
        "crl": {**CRL, "discount": discount, "behaviour_cloning": WEIGHTS.get(kind, OF_ARMS)},
        "gcbc": {"discount": discount},
        "gcivl": {"discount": discount, "sharpness": 10.0},
        "gciql": {"discount": discount, "behaviour_cloning": 0.003 if points else 0.3},
        "qrl": {"behaviour_cloning": 0.0003 if points else 0.003},
    }


for _env in (
    *(f"{maze}-{size}" for maze in MAZES for size in SIZES if (maze, size) != ("humanoidmaze", "teleport")),
    *("antsoccer-arena", "antsoccer-medium", "scene"),
    *(f"cube-{count}" for count in ("single", "double", "triple", "quadruple")),
    *(f"puzzle-{size}" for size in ("3x3", "4x4", "4x5", "4x6")),
):
    register_named_preset(NAME, f"ogbench:{_env}-v0", settings_of(_env), PROMISE)
