"""The configuration of a run: every setting, validated before anything is compiled."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import tyro

from kilolayer.agents import OptimizerSettings, agent_names, agent_spec, agent_specs
from kilolayer.data import ReplaySettings
from kilolayer.envs import Variant
from kilolayer.envs.divergence import MOST_DIVERGED
from kilolayer.envs.engines import check_engine_name
from kilolayer.errors import ConfigurationError
from kilolayer.nn import Architecture, ResidualArchitecture, torso_names, torso_spec
from kilolayer.runs.clock import Clocks, Count
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.runs.offline import check_given
from kilolayer.runs.option_types import EngineOption
from kilolayer.runs.timetable import Timetable
from kilolayer.settings import MOST_STEPS, check_count, check_seed, settings_from, validate


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. Defaults are those of the paper; `default_config` returns those of an environment."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")] = ""
    """Environment to train in; `kilolayer envs` lists them. gym:ID is one of Gymnasium, ogbench:ID of OGBench. In the
    config.json of a run, also a maze as text."""
    eval_env: str | None = None
    """Environment to evaluate in. None: the one registered for env (mazes are evaluated on far goals)."""
    engine: EngineOption = "auto"
    """Physics engine. auto: MuJoCo on a CPU; on a GPU the fastest there of those with the same physics, which the first
    run of a task times; and the engine of the paper for the variant paper."""
    variant: Variant = "default"
    """Variant of the task. default: with known flaws fixed; paper: as the published numbers need it."""
    agent: Annotated[str, tyro.conf.arg(help_behavior_hint=lambda default: _choices(default, agent_names()))] = "crl"
    """Learning method. Its settings are a block of this name."""
    torso: Annotated[str, tyro.conf.arg(help_behavior_hint=lambda default: _choices(default, torso_names()))] = (
        "residual_mlp"
    )
    """Kind of network. Its settings are the block `architecture`."""
    depth: int = 4
    """Dense layers inside the residual blocks of every network; a multiple of the block size. With grow, the depth of
    the last stage."""
    grow: str | None = None
    """Depths to grow through while training, each with the step at which it begins, such as 4@0,16@2M,64@10M or
    4@0,16@50K gradient_steps. New blocks start as the identity, so that actions and values do not jump."""
    collector_depth: int | None = None
    """Depth of a second agent of the same kind that collects all data; the agent itself only learns. None: the agent
    collects its own data."""
    width: int = 256
    """Units of a layer."""
    batch_size: int = 512
    """State-action pairs of a gradient step; each one is a negative for all others."""
    num_envs: int = 512
    """Environments in parallel, which collect."""
    total_env_steps: int = 100_000_000
    """Steps to take in all environments together. 0: nothing is collected, and the agent learns from given data."""
    episode_length: int = 1000
    """Steps after which an episode is truncated."""
    seed: int = 0
    """Seed of all randomness."""
    unroll_length: int = 62
    """Steps of every environment in a round."""
    gradient_steps_per_unroll: int = 800
    """Gradient steps of a round, after its env steps."""
    overlap: bool = False
    """Collect on the host while the device learns. A round then learns from the data of the rounds before it, and the
    next one from its own. For engines of the host, such as mujoco, beside a GPU."""
    devices: int = 1
    """Devices to spread environments, replay buffer and batch over; each has the networks. The batch stays one batch:
    it is contrasted as a whole."""
    shards: int | None = None
    """Equal parts of the replay buffer; a batch takes as many rows from each as from any other. The same shards compute
    the same, up to rounding, on any number of devices that divides them. None: as many as devices."""
    replay_capacity: int = 10_000
    """Steps of each environment that the replay buffer holds."""
    min_replay: int = 1_000
    """Steps of each environment to collect before the first round that learns; with 0, the first round learns."""
    fixed_goals: bool = False
    """Every environment keeps the start and the goal of its first episode, as in the published runs; else each episode
    draws new ones. Evaluations always draw new ones."""
    max_diverged: float = MOST_DIVERGED
    """Share of the episodes so far in which the robot's simulation may diverge, above which the run ends; fewer than
    100 episodes count as 100. An episode that diverges has failed."""
    num_evals: int = 100
    """Evaluations during training, evenly spaced. One more precedes training."""
    num_eval_envs: int = 128
    """Episodes of an evaluation."""
    checkpoint_minutes: float = 10.0
    """A checkpoint is saved at every evaluation, and this many minutes after the last checkpoint."""
    checkpoints_to_keep: int = 3
    """Latest checkpoints to keep, in addition to the best one by success_any, then time_at_goal."""
    diagnostics: bool = False
    """Measure the networks at every evaluation: norms and gradients by block, dead units, rank and spread of the
    embeddings. Written to diagnostics.jsonl and the report."""
    tensorboard: bool = False
    """Also write metrics to TensorBoard files in the run directory."""
    wandb: bool = False
    """Also send metrics to Weights & Biases."""
    wandb_project: str = "kilolayer"
    """Project at Weights & Biases."""
    total_gradient_steps: int | None = None
    """Gradient steps to take; the run ends when this or total_env_steps is reached. None: total_env_steps ends it."""
    eval_every: str | None = None
    """Steps between evaluations, such as 1M, 1M env_steps or 50K gradient_steps; replaces num_evals. The end of the run
    is always evaluated. None: num_evals evaluations, evenly spaced."""
    checkpoint_every: str | None = None
    """Steps between checkpoints, written like eval_every. None: only evaluations and checkpoint_minutes save them."""
    dataset: str | None = None
    """Data set to learn from, with nothing collected: ogbench:NAME, minari:NAME, or a path."""
    dataset_dir: str | None = None
    """Folder of the data sets that have names. None: where OGBench or Minari keep theirs."""
    init_from: str | None = None
    """Run whose networks this one begins with; its optimisers and clocks begin anew. Networks and settings of the agent
    are those of that run."""
    init_data: bool = False
    """With init_from: begin with the replay buffer of that run, too."""
    architecture: Architecture = dataclasses.field(default_factory=ResidualArchitecture)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    replay: ReplaySettings = dataclasses.field(default_factory=ReplaySettings)
    agent_settings: Annotated[Any, tyro.conf.Suppress] = None
    """Settings of the agent, an instance of its spec's class; None takes the defaults. In plain data, such as
    config.json, this block has the name of the agent."""

    def __post_init__(self) -> None:
        """Validate settings, and combinations of settings.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        self._check_blocks()
        check_given(self)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and field.name != "seed":
                least = {"depth": -MOST_STEPS, "min_replay": 0, "total_env_steps": 0}.get(field.name, 1)
                most = MOST_STEPS if field.name != "total_env_steps" else MOST_STEPS * self.num_envs
                check_count(field.name, value, least=least, most=most)
        check_seed(self.seed)
        if not 0.0 < self.checkpoint_minutes < math.inf:
            raise ConfigurationError(f"checkpoint_minutes={self.checkpoint_minutes} must be above 0, and finite")
        if not 0.0 <= self.max_diverged <= 1.0:
            raise ConfigurationError(f"max_diverged={self.max_diverged} must be from 0 to 1")
        check_engine_name(self.engine)
        self._check_clocks()
        self._check_windows()
        if self.overlap:
            self._check_off_policy("overlap=True", "with overlap, they are those of an older policy")
        if self.grow is not None:
            self._check_growth(GrowthSchedule.parse(self.grow))
        self.architecture.num_blocks(self.depth)
        if self.collector_depth is not None:
            self._check_collector(self.collector_depth)
        for name in ("unroll_length", "min_replay"):
            if self.collects and getattr(self, name) > self.replay_capacity:
                raise ConfigurationError(
                    f"{name}={getattr(self, name)} does not fit replay_capacity={self.replay_capacity}"
                )
        most = self.replay_capacity * self.num_envs
        most = min(most, self.total_env_steps) if self.collects else most
        if self.batch_size > most:
            raise ConfigurationError(
                f"batch_size={self.batch_size} is more than the replay buffer can hold: at most {most} steps "
                f"(replay_capacity={self.replay_capacity} x num_envs={self.num_envs}, "
                f"total_env_steps={self.total_env_steps})"
            )
        if self.collects and self.prefill_env_steps >= self.total_env_steps:
            raise ConfigurationError(
                f"total_env_steps={self.total_env_steps} leaves nothing to train on: filling min_replay="
                f"{self.min_replay} in num_envs={self.num_envs} takes {self.prefill_env_steps} steps"
            )

    def _check_clocks(self) -> None:
        """Validate the end of the run, the intervals of evaluations and checkpoints, and a run that collects nothing.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        if self.total_gradient_steps is not None and self.total_gradient_steps < 1:
            raise ConfigurationError(f"total_gradient_steps={self.total_gradient_steps} must be at least 1")
        if not self.collects:
            nothing = "total_env_steps=0 collects nothing"
            if self.total_gradient_steps is None:
                raise ConfigurationError(
                    f"{nothing}, so total_gradient_steps must end the run; set it, such as 100_000"
                )
            if agent_spec(self.agent).on_policy:
                fitting = [spec.name for spec in agent_specs() if not spec.on_policy]
                raise ConfigurationError(
                    f"{nothing}, but agent={self.agent!r} learns only from what its own policy collects; use "
                    f"agent={' or '.join(fitting)}"
                )
            if self.collector_depth is not None:
                raise ConfigurationError(
                    f"{nothing}, so collector_depth={self.collector_depth} has no effect; leave it out"
                )
            if self.overlap:
                raise ConfigurationError(f"{nothing}, so overlap=True has no effect; leave it out")
        end = self.timetable.end
        counts = {"env steps in each environment": end.env_steps // self.num_envs, "gradient steps": end.gradient_steps}
        for name, steps in counts.items():
            if steps > MOST_STEPS:
                raise ConfigurationError(f"the run would take {steps:,} {name}; at most {MOST_STEPS:,} can be counted")
        for name in ("eval_every", "checkpoint_every"):
            every = getattr(self, name)
            if every is not None:
                try:
                    self.timetable.check_every(Count.parse(every))
                except ConfigurationError as error:
                    raise ConfigurationError(f"{name}={every!r}: {error}") from None

    def _check_windows(self) -> None:
        windows = self.replay.windows
        if windows is None:
            return
        if agent_spec(self.agent).on_policy:
            raise ConfigurationError(
                f"replay.windows={windows} has no effect with agent={self.agent!r}, which learns from its newest "
                "steps alone; leave it out"
            )
        if windows > self.steps_before_learning:
            raise ConfigurationError(
                f"replay.windows={windows} is longer than what an environment has collected when learning begins: "
                f"{self.steps_before_learning} steps; lower it, or raise min_replay={self.min_replay}"
            )

    def _check_blocks(self) -> None:
        """Check that the blocks of settings are those of the agent and the torso; fill in an agent's defaults."""
        spec = agent_spec(self.agent)
        if self.agent_settings is None:
            object.__setattr__(self, "agent_settings", spec.settings())
        if type(self.agent_settings) is not spec.settings:
            raise ConfigurationError(
                f"agent_settings is a {type(self.agent_settings).__name__}; agent={self.agent!r} takes a "
                f"{spec.settings.__name__}"
            )
        if type(self.architecture) is not torso_spec(self.torso).settings:
            raise ConfigurationError(
                f"architecture is a {type(self.architecture).__name__}; torso={self.torso!r} takes a "
                f"{torso_spec(self.torso).settings.__name__}"
            )
        blocks: dict[str, Any] = {self.agent: self.agent_settings, "architecture": self.architecture}
        for name, block in blocks.items():
            for field in dataclasses.fields(block):
                value = getattr(block, field.name)
                if isinstance(value, int) and value > MOST_STEPS:
                    raise ConfigurationError(f"{name}.{field.name}={value} must be at most {MOST_STEPS}")

    def _check_growth(self, schedule: GrowthSchedule) -> None:
        self.architecture.check_growable()
        for stage in schedule.stages:
            try:
                self.architecture.num_blocks(stage.depth)
            except ConfigurationError as error:
                raise ConfigurationError(f"grow: {error}") from None
        if self.depth != schedule.final_depth:
            raise ConfigurationError(
                f"depth={self.depth} is not the depth that grow={self.grow!r} ends with; leave depth out, or make it "
                f"{schedule.final_depth}"
            )
        self._check_no_own_depths("grow", "grow sets the depth of every network")
        schedule.check(self.timetable)

    def _check_collector(self, depth: int) -> None:
        asked = f"collector_depth={depth}"
        self._check_off_policy(asked, "a collector's are not")
        if self.grow is not None:
            raise ConfigurationError(
                f"{asked} and grow={self.grow!r} exclude each other: a collector does not grow; leave one of them out"
            )
        self._check_no_own_depths("collector_depth", "it would be the collector's too")
        try:
            self.architecture.num_blocks(depth)
        except ConfigurationError as error:
            raise ConfigurationError(f"collector_depth: {error}") from None

    def _check_off_policy(self, asked: str, why: str) -> None:
        if agent_spec(self.agent).on_policy:
            fitting = [spec.name for spec in agent_specs() if not spec.on_policy]
            raise ConfigurationError(
                f"{asked} does not go with agent={self.agent!r}: it learns from actions of its own policy alone, and "
                f"{why}; take agent={' or '.join(fitting)}"
            )

    def _check_no_own_depths(self, name: str, why: str) -> None:
        for field in dataclasses.fields(self.agent_settings):
            value = getattr(self.agent_settings, field.name)
            if field.name.endswith("_depth") and value is not None:
                raise ConfigurationError(
                    f"{self.agent}.{field.name}={value} and {name}={getattr(self, name)!r} exclude each other: {why}; "
                    "leave one of them out"
                )

    @property
    def collects(self) -> bool:
        """Whether the run collects data; one that does not learns from data that it is given."""
        return self.total_env_steps > 0

    @property
    def num_shards(self) -> int:
        """Shards, also where they are as many as the devices."""
        return self.devices if self.shards is None else self.shards

    @property
    def env_steps_per_unroll(self) -> int:
        """Steps of all environments in one unroll."""
        return self.unroll_length * self.num_envs

    @property
    def prefill_env_steps(self) -> int:
        """Steps of all environments before the first gradient step."""
        return -(-self.min_replay // self.unroll_length) * self.env_steps_per_unroll

    @property
    def steps_before_learning(self) -> int:
        """Steps of each environment that the replay buffer holds at least in every round that learns."""
        if not self.collects:
            return self.replay_capacity
        rounds = -(-self.min_replay // self.unroll_length) + 1  # a round that learns collects first
        return min(self.replay_capacity, rounds * self.unroll_length)

    @property
    def timetable(self) -> Timetable:
        """Both clocks after every round of the run."""
        return Timetable(
            env_steps_per_round=self.env_steps_per_unroll if self.collects else 0,
            gradient_steps_per_round=self.gradient_steps_per_unroll,
            prefill_rounds=self.prefill_env_steps // self.env_steps_per_unroll if self.collects else 0,
            total_env_steps=self.total_env_steps if self.collects else None,
            total_gradient_steps=self.total_gradient_steps,
        )

    @property
    def num_unrolls(self) -> int:
        """Unrolls of the run."""
        return self.timetable.rounds if self.collects else 0

    def depth_at(self, clocks: Clocks) -> int:
        """Return the depth of the networks at a point of the run."""
        return self.depth if self.grow is None else GrowthSchedule.parse(self.grow).depth_at(clocks)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain data; the agent's block has the agent's name."""
        settings = dataclasses.asdict(self)
        settings[self.agent] = settings.pop("agent_settings")
        return settings

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrainConfig":
        """Build a configuration from plain data; settings that are missing take their defaults.

        Raises:
            ConfigurationError: for an unknown setting, a value of the wrong type, or one that is not valid.
        """
        found = dict(settings)
        agent = agent_spec(text_setting(found, "agent", cls.agent))
        architecture = torso_spec(text_setting(found, "torso", cls.torso)).settings
        fields = {field.name for field in dataclasses.fields(cls)} - {"agent_settings"}
        for name in found:
            if name in agent_names() and name != agent.name:
                raise ConfigurationError(_no_effect(name, found[name], agent.name))
            if name not in fields and name != agent.name:
                raise ConfigurationError(
                    f"setting {name!r} is unknown; there are {', '.join(sorted(fields | {agent.name}))}"
                )
        found["agent_settings"] = settings_from(agent.settings, found.pop(agent.name, {}), agent.name)
        found["architecture"] = settings_from(architecture, found.pop("architecture", {}), "architecture")
        found["optimizer"] = settings_from(OptimizerSettings, found.pop("optimizer", {}), "optimizer")
        found["replay"] = settings_from(ReplaySettings, found.pop("replay", {}), "replay")
        return validate(cls, found)


def _no_effect(block: str, settings: Any, agent: str) -> str:
    """Return why the settings of another agent are not valid, in one line."""
    if isinstance(settings, Mapping) and settings:
        named = ", ".join(f"{block}.{name}={value}" for name, value in settings.items())
        return f"{named} has no effect with agent={agent!r}; leave it out, or take agent={block!r}"
    return f"the settings of agent {block!r} have no effect with agent={agent!r}; leave {block!r} out"


def _choices(default: str, names: list[str]) -> str:
    """Return the hint behind a help text: the default and all choices."""
    return f"(default: {default}; one of {', '.join(names)})"


def text_setting(settings: Mapping[str, Any], name: str, default: str) -> str:
    """Return a setting that names a member of a registry."""
    value = settings.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}={value!r} must be a name")
    return value
