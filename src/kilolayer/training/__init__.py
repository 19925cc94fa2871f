"""Training: the training step, the loop, evaluation, run directories and checkpoints."""

from kilolayer.training.checkpoints import Checkpoints
from kilolayer.training.compiled_policy import ActionError, CompiledPolicy
from kilolayer.training.config import TrainConfig, default_config
from kilolayer.training.evaluation import Episodes, run_episodes, summarize
from kilolayer.training.loop import TrainResult, train
from kilolayer.training.policy import Policy, load
from kilolayer.training.run_directory import RunDirectory, read_config
from kilolayer.training.seeds import SeedGroup, choose_mode, parse_seeds, train_seeds
from kilolayer.training.setup import Setup
from kilolayer.training.step import Steps, TrainState, collect_step, compile_steps, init_state, learn_step

__all__ = [
    "ActionError",
    "Checkpoints",
    "CompiledPolicy",
    "Episodes",
    "Policy",
    "RunDirectory",
    "SeedGroup",
    "Setup",
    "Steps",
    "TrainConfig",
    "TrainResult",
    "TrainState",
    "choose_mode",
    "collect_step",
    "compile_steps",
    "default_config",
    "init_state",
    "learn_step",
    "load",
    "parse_seeds",
    "read_config",
    "run_episodes",
    "summarize",
    "train",
    "train_seeds",
]
