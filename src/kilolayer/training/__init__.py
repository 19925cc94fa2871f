"""Training: the collector, the training step, the trainer and evaluation."""

from kilolayer.training.evaluation import Episodes, run_episodes, summarize
from kilolayer.training.policies import contract_of, load_policy, load_with_setup, policy_of
from kilolayer.training.seeds import SeedGroup, choose_mode, parse_seeds, train_seeds
from kilolayer.training.setup import Setup
from kilolayer.training.step import Steps, TrainState, collect_step, compile_steps, init_state, learn_step
from kilolayer.training.trainer import TrainResult, train

__all__ = [
    "Episodes",
    "SeedGroup",
    "Setup",
    "Steps",
    "TrainResult",
    "TrainState",
    "choose_mode",
    "collect_step",
    "compile_steps",
    "contract_of",
    "init_state",
    "learn_step",
    "load_policy",
    "load_with_setup",
    "parse_seeds",
    "policy_of",
    "run_episodes",
    "summarize",
    "train",
    "train_seeds",
]
