"""The space of a sweep: for each setting the values that a trial may have, read from a YAML or JSON file.

depth: [4, 8, 16]
crl.energy: [norm, dot]
crl.critic_learning_rate: {low: 1e-4, high: 3e-3, log: true}
batch_size: {low: 128, high: 512, step: 128}
"""

import dataclasses
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kilolayer.agents import OptimizerSettings, agent_specs
from kilolayer.data import ReplaySettings
from kilolayer.errors import ConfigurationError, nearest_names
from kilolayer.nn import torso_names, torso_spec
from kilolayer.runs import TrainConfig

COMBINATIONS = 200
"""Combinations of values that are checked before a sweep begins: all of them if there are no more."""

NUMBER = re.compile(r"[-+]?\d[\d.e_-]*")

RANGE_KEYS = ("low", "high", "log", "step", "int")

NOT_SWEPT = {
    "env": "a sweep is on one environment",
    "seed": "all trials have the same seeds",
    "eval_env": "scores of different environments do not compare",
}
"""Settings that no trial chooses, and why."""


class SpaceError(ConfigurationError):
    """A space with mistakes."""

    def __init__(self, mistakes: Sequence[str]):
        """Take all mistakes, a line for each; the message is the first."""
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        super().__init__(f"{mistakes[0]}{more}")
        self.mistakes = tuple(str(ConfigurationError(mistake)) for mistake in mistakes)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values to choose from."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def some(self) -> Sequence[Any]:
        """Return all values."""
        return self.values

    def as_data(self) -> list[Any]:
        """Return the values as they are written."""
        return list(self.values)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Choose uniformly in the logarithm."""
    step: float | None = None
    """Distance of the values, from `low` on; None: any number, or any whole number."""
    whole: bool = False
    """Whole numbers only."""

    @property
    def size(self) -> int | None:
        """How many values there are; None if they are not counted."""
        step = self.step or (1 if self.whole else None)
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def some(self) -> Sequence[float]:
        """Return both ends and values between them; of whole numbers also those beside the ends."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        step = self.step or (1 if self.whole else None)
        if step is None:
            return [float(self.low), middle, float(self.high)]
        middle = self.low + step * ((middle - self.low) // step)
        kind: Callable[[float], float] = int if self.whole else float
        values = sorted({self.low, self.low + step, middle, self.last - step, self.last})
        return [kind(value) for value in values if self.low <= value <= self.last]

    @property
    def last(self) -> float:
        """The largest value."""
        if self.step is None:
            return self.high
        return self.low + self.step * math.floor((self.high - self.low) / self.step + 1e-9)

    def as_data(self) -> dict[str, Any]:
        """Return it as it is written."""
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return found | {
            name: value for name, value in (("log", self.log), ("step", self.step), ("int", self.whole)) if value
        }


@dataclasses.dataclass(frozen=True)
class Space:
    """What a trial may have, by full names of settings such as `depth` and `crl.energy`."""

    parameters: Mapping[str, Choice | Range]

    @property
    def size(self) -> int | None:
        """How many trials with different settings there are; None if they are not counted."""
        sizes = [parameter.size for parameter in self.parameters.values()]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def first(self) -> dict[str, Any]:
        """Return the first value of each setting."""
        return {name: parameter.some()[0] for name, parameter in self.parameters.items()}

    def as_data(self) -> dict[str, Any]:
        """Return it as it is written in a file."""
        return {name: parameter.as_data() for name, parameter in self.parameters.items()}


def read_space(path: Path, config_of: Callable[[Mapping[str, Any]], TrainConfig]) -> Space:
    """Read a space, and check it with the settings of the sweep before anything is trained.

    Args:
        path: a YAML or JSON file: by setting, a list of values, or `low`, `high` and maybe `log`, `step` and `int`.
        config_of: returns the configuration of a trial with some settings by full name.

    Raises:
        SpaceError: with all mistakes: unknown settings, ranges that are none, values that are not valid, and settings
            that exclude each other. Of a space with more than `COMBINATIONS` combinations some are tried.
        ConfigurationError: if the file cannot be read, or the settings beside the space are not valid.
    """
    return space_from(_read(path), config_of)


def space_from(data: Any, config_of: Callable[[Mapping[str, Any]], TrainConfig]) -> Space:
    """Build a space from plain data; see `read_space`."""
    if not isinstance(data, Mapping) or not data:
        raise SpaceError(["space: it must have a line such as `depth: [4, 8]` or `width: {low: 64, high: 256}`"])
    known = _known_settings()
    parameters: dict[str, Choice | Range] = {}
    mistakes = []
    for name, written in data.items():
        try:
            parameters[str(name)] = _parameter(str(name), written, known)
        except ConfigurationError as error:
            mistakes.append(f"space: {error}")
    if not mistakes:
        mistakes = _bad_combinations(parameters, config_of)
    if mistakes:
        raise SpaceError(mistakes)
    return Space(parameters)


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text)
        if path.suffix not in (".yaml", ".yml"):
            raise ConfigurationError(f"space={str(path)!r} must be a file whose name ends with .yaml, .yml or .json")
        return _read_yaml(text)
    except OSError as error:
        raise ConfigurationError(f"space: {path} cannot be read: {error.strerror}") from None
    except ConfigurationError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"space: {path} cannot be read: {' '.join(str(error).split())}") from None


def _read_yaml(text: str) -> Any:
    """Read YAML; 1e-4 is a number, as in YAML 1.2 and JSON.

    Raises:
        ConfigurationError: if PyYAML is not installed.
        ValueError: if the text is no YAML.
    """
    try:
        import yaml
    except ModuleNotFoundError:
        raise ConfigurationError(
            "a space in YAML needs PyYAML; install it with `pip install 'kilolayer[sweep]'`, or write JSON"
        ) from None

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from None
    return _numbers(found)


def _numbers(data: Any) -> Any:
    """Return data with numbers in place of texts such as 1e-4, which PyYAML takes for text."""
    if isinstance(data, Mapping):
        return {name: _numbers(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_numbers(value) for value in data]
    if isinstance(data, str) and "e" in data.lower():
        try:
            return float(data)
        except ValueError:
            return data
    return data


def _known_settings() -> dict[str, Any]:
    """Return all settings by full name, with their defaults: those of every agent and every torso."""
    agents: dict[str, type] = {spec.name: spec.settings for spec in agent_specs()}
    blocks = [("optimizer", OptimizerSettings), ("replay", ReplaySettings), *agents.items()]
    blocks += [("architecture", torso_spec(name).settings) for name in torso_names()]
    inside = {name for name, _ in blocks} | {"agent_settings"}
    found = {field.name: field.default for field in dataclasses.fields(TrainConfig) if field.name not in inside}
    for name, settings in blocks:
        found |= {f"{name}.{field.name}": field.default for field in dataclasses.fields(settings)}
    return found


def _parameter(name: str, written: Any, known: Mapping[str, Any]) -> Choice | Range:
    """Return what is written of a setting.

    Raises:
        ConfigurationError: saying what is wrong.
    """
    if name in NOT_SWEPT:
        raise ConfigurationError(f"{name} is not swept: {NOT_SWEPT[name]}")
    if name not in known:
        inside = [full for full in known if full.startswith(f"{name}.")]
        if inside:
            raise ConfigurationError(f"{name} is a block of settings; name them, such as {inside[0]}")
        raise ConfigurationError(
            f"setting {name!r} is unknown; {nearest_names(name, known, listing='see config.json')}"
        )
    if isinstance(written, list):
        return _choice(name, written)
    if isinstance(written, Mapping):
        return _range(name, written, known[name])
    raise ConfigurationError(f"{name}={written!r} must be a list of values, or low and high")


def _choice(name: str, written: Sequence[Any]) -> Choice:
    if not written:
        raise ConfigurationError(f"{name}=[] has no value to choose")
    for place, value in enumerate(written):
        if not isinstance(value, str | int | float | None):
            raise ConfigurationError(f"{name}: {value!r} must be a number, a text, true, false or null")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError(f"{name}: {value} must be finite")
        if any(value == other and type(value) is type(other) for other in written[:place]):
            raise ConfigurationError(f"{name}: {value!r} comes twice")
    return Choice(tuple(written))


def _range(name: str, written: Mapping[Any, Any], value: Any) -> Range:
    """Return a range of a setting whose value elsewhere is `value`."""
    for key in written:
        if key not in RANGE_KEYS:
            raise ConfigurationError(f"{name}: key {key!r} is unknown; there are {', '.join(RANGE_KEYS)}")
    if isinstance(value, bool | str | list):
        raise ConfigurationError(f"{name} is no number: give a list of values, not low and high")
    for key in ("low", "high"):
        if key not in written:
            raise ConfigurationError(f"{name}: {key} is missing")
    for key in ("low", "high", "step"):
        number = written.get(key, 1)
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ConfigurationError(f"{name}: {key}={number!r} must be a finite number")
    for key in ("log", "int"):
        if not isinstance(written.get(key, False), bool):
            raise ConfigurationError(f"{name}: {key}={written[key]!r} must be true or false")
    low, high, log, step = written["low"], written["high"], written.get("log", False), written.get("step")
    numbers = [low, high, *([] if step is None else [step])]
    are_whole = all(float(number).is_integer() for number in numbers)
    whole = written.get("int", isinstance(value, int) or (value is None and all(type(one) is int for one in numbers)))
    if whole and not are_whole:
        raise ConfigurationError(f"{name}: it is a whole number, and so must be low={low}, high={high} and step")
    if low >= high:
        raise ConfigurationError(f"{name}: low={low} must be below high={high}")
    if log and low <= 0:
        raise ConfigurationError(f"{name}: low={low} must be above 0 with log")
    if step is not None and step <= 0:
        raise ConfigurationError(f"{name}: step={step} must be above 0")
    if log and step is not None:
        raise ConfigurationError(f"{name}: log and step={step} exclude each other; leave one of them out")
    kind: Callable[[float], float] = int if whole else float
    return Range(kind(low), kind(high), log, None if step is None else kind(step), whole)


def _bad_combinations(
    parameters: Mapping[str, Choice | Range], config_of: Callable[[Mapping[str, Any]], TrainConfig]
) -> list[str]:
    """Return what is wrong with values, alone or together, with the settings that show it first.

    A mistake that comes with several numbers is said once.
    """
    found: dict[str, str] = {}
    beside = ""
    try:
        config_of({})
    except ConfigurationError as error:  # of the settings beside the space, or of defaults that it replaces
        beside = str(error)
    for settings in _combinations(parameters):
        try:
            config_of(settings)
        except ConfigurationError as error:
            if str(error) == beside:
                return [beside]
            shown = ", ".join(f"{name}={value}" for name, value in settings.items())
            found.setdefault(NUMBER.sub("", str(error)), f"space: {error} (a trial may have {shown})")
    return list(found.values())


def _combinations(parameters: Mapping[str, Choice | Range]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of values, of ranges some values; if they are many, some with each value."""
    some = {name: parameter.some() for name, parameter in parameters.items()}
    if math.prod(map(len, some.values())) <= COMBINATIONS:
        for values in itertools.product(*some.values()):
            yield dict(zip(some, values, strict=True))
        return
    draw = random.Random(0)
    most = max(map(len, some.values()))
    for number in range(max(COMBINATIONS, most)):
        yield {
            name: values[number] if number < len(values) else draw.choice(list(values)) for name, values in some.items()
        }
