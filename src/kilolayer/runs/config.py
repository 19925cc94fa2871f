"""The configuration of a run: every setting, validated before anything is compiled."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
import tyro

from kilolayer.agents import (
    AGENTS,
    BLOCKS,
    AgentName,
    CLearningConfig,
    CRLConfig,
    CRLDiscreteConfig,
    GCBCConfig,
    GCSLConfig,
    HERConfig,
    PPOConfig,
    QRLConfig,
    SACConfig,
    TD3Config,
    agent_spec,
)
from kilolayer.envs import EnvironmentSpec, Variant, registry
from kilolayer.envs.engines import EngineName
from kilolayer.errors import ConfigurationError
from kilolayer.nn import ResidualArchitecture
from kilolayer.runs.clock import Clocks, Count
from kilolayer.runs.growth_schedule import GrowthSchedule
from kilolayer.runs.timetable import Timetable


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. Defaults are those of the paper; `default_config` returns those of an environment."""

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ENV")] = ""
    """Environment to train in; `kilolayer envs` lists them. In the config.json of a run, also a maze as text."""
    eval_env: str | None = None
    """Environment to evaluate in. None: the one registered for env (mazes are evaluated on far goals)."""
    engine: EngineName = "auto"
    """Physics engine. auto: MuJoCo on a CPU, MJX on a GPU, and the engine of the paper for the variant paper."""
    variant: Variant = "default"
    """Variant of the task. default: with known flaws fixed; paper: as the published numbers need it."""
    agent: AgentName = "crl"
    """Learning method. It reads the settings of the block with its name; methods *_her also read those of `her`."""
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
    """Environments that collect in parallel."""
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
    replay_capacity: int = 10_000
    """Steps of each environment that the replay buffer holds."""
    min_replay: int = 1_000
    """Steps of each environment to collect before the first round that learns; with 0, the first round learns."""
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
    architecture: ResidualArchitecture = ResidualArchitecture()
    crl: CRLConfig = CRLConfig()
    crl_discrete: CRLDiscreteConfig = CRLDiscreteConfig()
    sac: SACConfig = SACConfig()
    td3: TD3Config = TD3Config()
    her: HERConfig = HERConfig()
    gcbc: GCBCConfig = GCBCConfig()
    gcsl: GCSLConfig = GCSLConfig()
    ppo: PPOConfig = PPOConfig()
    c_learning: CLearningConfig = CLearningConfig()
    qrl: QRLConfig = QRLConfig()

    def __post_init__(self) -> None:
        """Validate values and combinations of values.

        Raises:
            ConfigurationError: naming the field, its value and what would be valid.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("seed", "min_replay", "total_env_steps") else 1
            if field.type is int and field.name != "depth" and value < least:
                raise ConfigurationError(f"{field.name}={value} must be at least {least}")
        if not self.checkpoint_minutes > 0.0:
            raise ConfigurationError(f"checkpoint_minutes={self.checkpoint_minutes} must be above 0")
        self._check_clocks()
        self._check_blocks()
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
                fitting = [name for name, spec in AGENTS.items() if not spec.on_policy]
                raise ConfigurationError(
                    f"{nothing}, but agent={self.agent!r} learns only from what its own policy collects; use "
                    f"agent={' or '.join(fitting)}"
                )
            if self.collector_depth is not None:
                raise ConfigurationError(
                    f"{nothing}, so collector_depth={self.collector_depth} has no effect; leave it out"
                )
        for name in ("eval_every", "checkpoint_every"):
            every = getattr(self, name)
            if every is not None:
                try:
                    self.timetable.check_every(Count.parse(every))
                except ConfigurationError as error:
                    raise ConfigurationError(f"{name}={every!r}: {error}") from None

    def _check_blocks(self) -> None:
        """Validate that no setting of another agent is set: it would change nothing."""
        reads = agent_spec(self.agent).reads
        for block in BLOCKS:
            if block in reads:
                continue
            settings = getattr(self, block)
            for field in dataclasses.fields(settings):
                value = getattr(settings, field.name)
                if value != field.default:
                    raise ConfigurationError(
                        f"{block}.{field.name}={value} has no effect with agent={self.agent!r}, which reads "
                        f"{' and '.join(reads)}; leave it out"
                    )

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
        self._check_no_part_has_a_depth_besides("grow", "grow sets the depth of every network")
        schedule.check(self.timetable)

    def _check_collector(self, depth: int) -> None:
        asked = f"collector_depth={depth}"
        if agent_spec(self.agent).on_policy:
            fitting = [name for name, spec in AGENTS.items() if not spec.on_policy]
            raise ConfigurationError(
                f"{asked} does not go with agent={self.agent!r}: it learns from actions of its own policy alone, and a "
                f"collector's are not; take agent={' or '.join(fitting)}"
            )
        if self.grow is not None:
            raise ConfigurationError(
                f"{asked} and grow={self.grow!r} exclude each other: a collector does not grow; leave one of them out"
            )
        self._check_no_part_has_a_depth_besides("collector_depth", "it would be the collector's too")
        try:
            self.architecture.num_blocks(depth)
        except ConfigurationError as error:
            raise ConfigurationError(f"collector_depth: {error}") from None

    def _check_no_part_has_a_depth_besides(self, name: str, why: str) -> None:
        for block, settings in self.agent_settings.items():
            for field in dataclasses.fields(settings):
                value = getattr(settings, field.name)
                if field.name.endswith("_depth") and value is not None:
                    raise ConfigurationError(
                        f"{block}.{field.name}={value} and {name}={getattr(self, name)!r} exclude each other: {why}; "
                        "leave one of them out"
                    )

    @property
    def agent_settings(self) -> dict[str, Any]:
        """The blocks of settings that the agent reads."""
        return {block: getattr(self, block) for block in agent_spec(self.agent).reads}

    @property
    def collects(self) -> bool:
        """Whether the run collects data; one that does not learns from data that it is given."""
        return self.total_env_steps > 0

    @property
    def env_steps_per_unroll(self) -> int:
        """Steps of all environments in one unroll."""
        return self.unroll_length * self.num_envs

    @property
    def prefill_env_steps(self) -> int:
        """Steps of all environments before the first gradient step."""
        return -(-self.min_replay // self.unroll_length) * self.env_steps_per_unroll

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
        """Return all settings as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrainConfig":
        """Build a configuration from plain data; missing settings take their defaults.

        Raises:
            ConfigurationError: for an unknown setting, or a value that is invalid or of the wrong type.
        """
        _refuse_unknown(cls, settings, "")
        try:
            return pydantic.TypeAdapter(cls).validate_python(dict(settings))
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            cause = first.get("ctx", {}).get("error")
            if isinstance(cause, ConfigurationError):
                raise cause from None
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"{where}={first['input']!r}: {first['msg']}") from None


def default_config(env: str, **settings: Any) -> TrainConfig:
    """Return the default settings of an environment, with `settings` changed.

    Args:
        env: a registered name, the path of a maze file (`*.txt`), or a maze as text.
        settings: fields of `TrainConfig`; `architecture` and the agents' blocks also as dictionaries of
            the fields to change.

    Raises:
        ConfigurationError: for an unknown environment or setting, or an invalid value.
    """
    env = registry.resolve(env)
    spec = registry.spec(env)
    variant = settings.get("variant", "default")
    preset = _preset(spec, variant)
    agent = agent_spec(settings.get("agent") or preset.get("agent", "crl"))
    unread = set(BLOCKS) - set(agent.reads)
    preset = {name: value for name, value in preset.items() if name not in unread}
    merged: dict[str, Any] = {"env": env, "episode_length": spec.episode_length}
    lay(preset, over=merged)
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    lay(agent.training(defaults | merged | settings), over=merged)
    lay(settings, over=merged)
    if isinstance(merged.get("grow"), str) and "depth" not in settings:
        merged["depth"] = GrowthSchedule.parse(merged["grow"]).final_depth
    eval_env = merged.get("eval_env")
    merged["eval_env"] = registry.resolve(eval_env) if eval_env else spec.eval_env or env
    # A run keeps the engine that it began with: `auto` may choose another one on the next machine.
    merged["engine"] = spec.engine_name(merged.get("engine", "auto"), variant)
    return TrainConfig.from_dict(merged)


def _preset(spec: EnvironmentSpec, variant: str) -> Mapping[str, Any]:
    """Return the training settings of a variant."""
    return spec.training if variant != "paper" or spec.paper_training is None else spec.paper_training


def lay(settings: Mapping[str, Any], *, over: dict[str, Any]) -> None:
    """Write settings over others, in place; of a block, only the fields that are given."""
    for name, value in settings.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        over[name] = over.get(name, {}) | value if isinstance(value, Mapping) else value


def _refuse_unknown(cls: type, settings: Mapping[str, Any], prefix: str) -> None:
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    for name, value in settings.items():
        if name not in fields:
            raise ConfigurationError(f"setting {prefix + name!r} is unknown; there are {', '.join(fields)}")
        nested = fields[name]
        if isinstance(nested, type) and dataclasses.is_dataclass(nested) and isinstance(value, Mapping):
            _refuse_unknown(nested, value, f"{prefix}{name}.")
