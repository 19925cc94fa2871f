"""Short spellings of flags, and those that flags had before: one line says what they are called now."""

from collections.abc import Mapping, Sequence

from kilolayer.errors import ConfigurationError

SHORT: Mapping[str, Mapping[str, str]] = {
    "train": {"--steps": "--total-env-steps"},
    "distill": {"--steps": "--total-env-steps"},
}
"""By command: spellings for people, of settings whose name in config.json is longer."""

FORMER: Mapping[str, Mapping[str, str]] = {
    "study": {"--dir": "--run-dir", "--tasks": "--envs"},
    "prune": {"--output": "--results"},
    "render": {"--size": "--resolution"},
    "envs explore": {"--num-envs": "--episodes"},
    "bench env": {"--tasks": "--envs"},
    "bench step": {"--steps": "--gradient-steps"},
    "bench act": {"--batch": "--observations"},
}
"""By command: what a flag was called before, and its name now."""


def in_full(arguments: Sequence[str], *, command: str) -> list[str]:
    """Return arguments with short spellings in full.

    Args:
        arguments: what followed the command.
        command: as it is called, such as `bench step`.

    Raises:
        ConfigurationError: for a spelling that a flag had before.
    """
    short, former = SHORT.get(command, {}), FORMER.get(command, {})
    found = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag.replace("_", "-") in former:
            raise ConfigurationError(f"{flag} of kilolayer {command} is called {former[flag.replace('_', '-')]} now")
        found.append(f"{short[flag]}{equals}{value}" if flag in short else argument)
    return found


def names_of(flag: str, command: str) -> list[str]:
    """Return the spellings of a flag of a command, the one of config.json first."""
    return [flag, *(short for short, full in SHORT.get(command, {}).items() if full == flag)]


def list_with_spaces(arguments: Sequence[str], lists: Sequence[str]) -> str:
    """Return how to write a list that was written with spaces; empty if there is none.

    Args:
        arguments: what followed the command.
        lists: the flags that take a list.
    """
    for place, flag in enumerate(arguments):
        if flag in lists:
            rest = arguments[place + 1 :]
            end = next((at for at, word in enumerate(rest) if word.startswith("--")), len(rest))
            if end > 1:
                return f"a list is one word with commas: {flag} {','.join(rest[:end])}"
    return ""
