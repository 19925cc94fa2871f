"""How trials are chosen: the space and the sampler of a sweep in Optuna's terms."""

import hashlib
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from kilolayer.studies.sweep.plan import Sweep
from kilolayer.studies.sweep.space import Choice, Range

STARTUP = 10
"""Trials at random before the sampler learns from them."""


def distributions(sweep: Sweep) -> dict[str, BaseDistribution]:
    """Return the space in Optuna's terms."""
    return {name: _distribution(parameter) for name, parameter in sweep.space.parameters.items()}


def _distribution(parameter: Choice | Range) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.last), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.last, log=parameter.log, step=parameter.step)


class RepeatableSampler(BaseSampler):
    """A sampler that draws for each trial with a seed of its own.

    What it chooses depends on the seed, the number of the trial and the trials before alone: not on the process, and
    not on whether the sweep was killed in between.
    """

    def __init__(self, sweep: Sweep):
        """Take the seed and the kind of a sweep."""
        self._seed, self._kind = sweep.seed, sweep.sampler

    def _of(self, *words: object) -> BaseSampler:
        digest = hashlib.sha256(" ".join(map(str, (self._seed, *words))).encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        return TPESampler(seed=seed, n_startup_trials=STARTUP) if self._kind == "tpe" else RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the settings that are chosen together."""
        return self._of(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Choose these settings."""
        return self._of(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Choose a setting that is not chosen together with others."""
        own = self._of(trial.number, param_name)
        return own.sample_independent(study, trial, param_name, param_distribution)
