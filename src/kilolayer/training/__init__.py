"""Training: collectors, the training step, the trainer and evaluation."""

from kilolayer.training.collector import Collector, EnvironmentCollector, NoCollector
from kilolayer.training.evaluation import Episodes, run_episodes, summarize
from kilolayer.training.policies import contract_of, load_policy, load_with_setup, policy_of
from kilolayer.training.population import choose_mode
from kilolayer.training.seed_run import SeedRun
from kilolayer.training.setup import Setup
from kilolayer.training.start import RESUMABLE_SETTINGS, train, train_seeds
from kilolayer.training.step import (
    Steps,
    TrainState,
    collect_step,
    compile_steps,
    init_state,
    learn_step,
    state_shape,
)
from kilolayer.training.trainer import Trainer, TrainResult

__all__ = [
    "RESUMABLE_SETTINGS",
    "Collector",
    "EnvironmentCollector",
    "Episodes",
    "NoCollector",
    "SeedRun",
    "Setup",
    "Steps",
    "TrainResult",
    "TrainState",
    "Trainer",
    "choose_mode",
    "collect_step",
    "compile_steps",
    "contract_of",
    "init_state",
    "learn_step",
    "load_policy",
    "load_with_setup",
    "policy_of",
    "run_episodes",
    "state_shape",
    "summarize",
    "train",
    "train_seeds",
]
