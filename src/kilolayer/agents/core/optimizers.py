"""Optimisers: which optax transformation updates the networks of an agent."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from kilolayer.agents.core.adam import scale_by_adam
from kilolayer.agents.core.checks import check_choice, check_counts, check_finite, check_not_negative, check_positive
from kilolayer.errors import ConfigurationError

OptimizerName = Literal["adam", "adamw", "muon"]
Schedule = Literal["constant", "cosine"]


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Settings of the optimisers of all networks of an agent. Learning rates are settings of the agent, one for each
    part; single numbers such as an entropy coefficient are always updated by plain Adam."""

    name: OptimizerName = "adam"
    """adam (Kingma and Ba, 2015), adamw (decoupled weight decay; Loshchilov and Hutter, 2019), or muon (momentum made
    orthogonal, for weight matrices; Jordan et al., 2024), with AdamW for all other parameters."""
    weight_decay: float = 0.0
    """Weight decay of weight matrices, relative to the learning rate; for adamw and muon."""
    schedule: Schedule = "constant"
    """Learning rate after the warm-up: constant, or cosine: down to a share of it by decay_steps."""
    warmup_steps: int = 0
    """Gradient steps in which the learning rate rises linearly from 0; 0 starts at the full rate."""
    decay_steps: int | None = None
    """Gradient steps, the warm-up included, after which a cosine schedule is at its end."""
    final_share: float = 0.0
    """Share of the learning rate at the end of a cosine schedule."""
    max_gradient_norm: float | None = None
    """Longer gradients of a part are scaled down to this length; None leaves them as they are."""

    def __post_init__(self) -> None:
        """Validate settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        check_finite(self)
        check_choice(self, "name", get_args(OptimizerName))
        check_choice(self, "schedule", get_args(Schedule))
        check_not_negative(self, "weight_decay", "warmup_steps", "final_share")
        check_counts(self, "decay_steps")
        if self.max_gradient_norm is not None:
            check_positive(self, "max_gradient_norm")
        if self.weight_decay and self.name == "adam":
            raise ConfigurationError(f"weight_decay={self.weight_decay} has no effect with name='adam'; take adamw")
        if self.schedule == "cosine" and self.decay_steps is None:
            raise ConfigurationError("schedule='cosine' needs decay_steps, the gradient step at which it ends")
        if self.schedule == "constant" and (self.decay_steps is not None or self.final_share):
            raise ConfigurationError("decay_steps and final_share have no effect with schedule='constant'; take cosine")
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ConfigurationError(
                f"decay_steps={self.decay_steps} must be above warmup_steps={self.warmup_steps}: it includes them"
            )
        if self.final_share > 1.0:
            raise ConfigurationError(f"final_share={self.final_share} must be from 0 to 1")

    def learning_rate(self, peak: float) -> optax.ScalarOrSchedule:
        """Return the learning rate over gradient steps: a number if it is constant.

        Args:
            peak: the full learning rate.
        """
        if self.schedule == "cosine":
            assert self.decay_steps is not None
            return optax.warmup_cosine_decay_schedule(
                init_value=0.0 if self.warmup_steps else peak,
                peak_value=peak,
                warmup_steps=self.warmup_steps,
                decay_steps=self.decay_steps,
                end_value=self.final_share * peak,
            )
        if self.warmup_steps:
            return optax.linear_schedule(0.0, peak, self.warmup_steps)
        return peak

    def build(self, learning_rate: float, *, max_gradient_norm: float | None = None) -> optax.GradientTransformation:
        """Return the optimiser of one part of an agent.

        Args:
            learning_rate: its full learning rate.
            max_gradient_norm: clip gradients to this length if the settings do not clip them.
        """
        rate = self.learning_rate(learning_rate)
        match self.name:
            case "adam":
                optimizer = optax.chain(scale_by_adam(), optax.scale_by_learning_rate(rate))
            case "adamw":
                optimizer = optax.chain(
                    scale_by_adam(),
                    optax.add_decayed_weights(self.weight_decay, is_weight),
                    optax.scale_by_learning_rate(rate),
                )
            case "muon":
                # An update has the size of one of Adam, so that Adam's learning rates fit (Liu et al., 2025).
                matrices = muon(
                    rate,
                    weight_decay=self.weight_decay,
                    muon_weight_dimension_numbers=_matrices,
                    consistent_rms=0.2,
                )
                others = optax.chain(scale_by_adam(nesterov=True), optax.scale_by_learning_rate(rate))
                optimizer = optax.partition({True: matrices, False: others}, is_weight)
        largest = self.max_gradient_norm if self.max_gradient_norm is not None else max_gradient_norm
        return optimizer if largest is None else optax.chain(optax.clip_by_global_norm(largest), optimizer)


def is_weight(parameters: Any) -> Any:
    """Return for each array of a tree of parameters whether it holds weight matrices: those named `weight`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _is_weight(path, leaf), parameters)


def _is_weight(path: tuple, leaf: Any) -> bool:
    return bool(path) and getattr(path[-1], "name", None) == "weight" and leaf.ndim >= 2


def _matrices(parameters: Any) -> Any:
    """Return for each weight its axes as a matrix, (..., in, out): stacked ones are matrices each; None for others."""

    def axes(path: tuple, leaf: Any) -> MuonDimensionNumbers | None:
        if not _is_weight(path, leaf):
            return None
        return MuonDimensionNumbers(reduction_axis=leaf.ndim - 2, output_axis=leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, parameters)
