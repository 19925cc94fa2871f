"""`kilolayer distill`: train a smaller policy to act as a trained one does."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from kilolayer.agents import DistillConfig
from kilolayer.cli.lists import OptionalSeeds, Pairs
from kilolayer.cli.options import parse
from kilolayer.cli.train_results import print_outcome
from kilolayer.cli.values import values
from kilolayer.errors import ConfigurationError
from kilolayer.kernel_choices import own_kernel_choices
from kilolayer.studies.core.study import nested
from kilolayer.training import choose_mode, train, train_seeds
from kilolayer.training.distillation import DEPTH, distillation_config

OWN = ("weighting", "actor_learning_rate")
"""Options that are settings of the student."""

OF_THE_RUN = ("depth", "width", "torso", "total_env_steps", "seed")
"""Options that are settings of the run."""


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """Train a student that acts as the policy of RUN does: the student acts in the environment, and the teacher says
    what it would have done there. The result is a run as any other: eval, report, render, train --resume."""

    FIRST: ClassVar[tuple[str, ...]] = ("depth", "width", "total-env-steps", "seed", "seeds", "set", "run-dir")
    """Flags that people use first."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a run, or of a policy: the teacher."""
    run_dir: Path | None = None
    """Directory of the run that is made; None takes a new one under runs/."""
    checkpoint: str | None = None
    """Checkpoint: latest, best, or its env steps. It is the teacher's."""
    depth: int = DEPTH
    """Dense layers inside the residual blocks of the student."""
    width: int | None = None
    """Units of a layer of the student; None takes the teacher's."""
    torso: str | None = None
    """Kind of network of the student; None takes the teacher's."""
    total_env_steps: int | None = None
    """Steps to take in all environments together, by the student; None takes a quarter of the teacher's."""
    weighting: str = DistillConfig.weighting
    """Weight of a state: none (all alike), or critic: states weigh more where the student's action is worse than the
    teacher's by the teacher's critic."""
    actor_learning_rate: float = DistillConfig.actor_learning_rate
    """Learning rate of the student."""
    seed: int = 0
    """Seed of all randomness."""
    seeds: OptionalSeeds = None
    """Seeds, such as 0..7 or 0,3,5, to train students with side by side: runs RUN_DIR/seed-0 and so on."""
    set: Pairs = ()
    """Settings, such as num_evals=5,optimizer.name=adamw, that have no flag here."""
    json: bool = False
    """Print JSON: the result as one object; with several seeds, a list."""
    quiet: bool = False
    """Show no progress."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(DistillOptions, arguments, command="distill")
    if options.seeds is not None and options.seed != DistillOptions.seed:
        raise ConfigurationError("--seed and --seeds exclude each other; leave --seed out")
    own_kernel_choices()
    config = distillation_config(options.run, checkpoint=options.checkpoint, **_settings(options))
    started: Any = {"config": config, "run_dir": options.run_dir, "progress": not options.quiet}
    if options.seeds is None:
        results = [train(**started)]
    else:
        mode = choose_mode("auto", overlap=config.overlap)
        results = train_seeds(**started, seeds=options.seeds, mode=mode)
    return print_outcome(results, several=options.seeds is not None, as_json=options.json)


def _settings(options: DistillOptions) -> dict[str, Any]:
    """Return the settings that the options change."""
    changed = nested(values(options.set, flag="set"))
    for name in (*OF_THE_RUN, *OWN):
        if name in changed:
            raise ConfigurationError(f"--set {name}: there is an option of this name; take that one")
    given = {name: value for name in OF_THE_RUN if (value := getattr(options, name)) is not None}
    own = {name: getattr(options, name) for name in OWN}
    return given | changed | {"distill": changed.get("distill", {}) | own}
