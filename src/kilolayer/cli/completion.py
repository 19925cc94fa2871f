"""`kilolayer completion`: print what makes a shell complete commands, flags, and names of environments and agents."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import tyro

from kilolayer.agents import agent_names
from kilolayer.cli.commands import BELOW, COMMANDS, HELP, HELP_ALL, HELP_FLAGS
from kilolayer.cli.help import flags_of, value_name
from kilolayer.cli.options import parse
from kilolayer.cli.parsers import commands, parser
from kilolayer.cli.user_code import FLAG
from kilolayer.envs import names
from kilolayer.envs.engines import engine_names
from kilolayer.nn import torso_names
from kilolayer.studies import STUDIES

Shell = Literal["bash", "zsh", "fish"]


@dataclasses.dataclass(frozen=True)
class CompletionOptions:
    """Print what makes a shell complete kilolayer's commands, flags, and names of environments, agents and studies.

    bash: kilolayer completion bash > ~/.local/share/bash-completion/completions/kilolayer

    zsh: kilolayer completion zsh > ~/.kilolayer.zsh, and a line `source ~/.kilolayer.zsh` in ~/.zshrc

    fish: kilolayer completion fish > ~/.config/fish/completions/kilolayer.fish

    With --import FILE it knows the names that the file registers, too.
    """

    shell: Annotated[Shell, tyro.conf.Positional]
    """The shell."""


@dataclasses.dataclass(frozen=True)
class Completed:
    """What can follow a command."""

    flags: dict[str, tuple[str, ...] | None]
    """What each flag takes: words, nothing if empty (a switch), or anything, such as a file, for None."""
    words: tuple[str, ...]
    """Words that are no flags, such as names of environments."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand and return the exit code."""
    options = parse(CompletionOptions, arguments, command="completion")
    write = {"bash": bash, "zsh": zsh, "fish": fish}[options.shell]
    print(write(completions()))
    return 0


def completions() -> dict[str, Completed]:
    """Return what can follow each command, by its words."""
    found = {command: _completed(command, [parser(*command.split())]) for command in map(" ".join, commands())}
    kinds = [parser("train", f"--agent={name}") for name in agent_names()]
    kinds += [parser("train", f"--torso={name}") for name in torso_names()]
    found["train"] = _completed("train", kinds)
    for command, below in BELOW.items():
        own = found.get(command, Completed({}, ()))
        found[command] = dataclasses.replace(own, words=(*own.words, *below))
    found[HELP] = Completed({}, tuple(COMMANDS))
    return found


def _completed(command: str, parsers: Sequence[Any]) -> Completed:
    flags: dict[str, tuple[str, ...] | None] = {HELP_FLAGS[1]: (), HELP_ALL: ()}
    words: dict[str, None] = {}
    for one in parsers:
        for action in one._actions:
            if not action.option_strings:
                words |= dict.fromkeys(action.choices or POSITIONAL.get(str(action.metavar), lambda: ())())
                continue
            if set(action.option_strings) & set(HELP_FLAGS):
                continue
            takes = None if value_name(action) else ()
            choices = [str(choice) for choice in action.choices or () if str(choice) != "None"]
            flags |= {flag: _values(flag, choices, takes) for flag in flags_of(action, command)}
    return Completed(flags, tuple(words))


POSITIONAL = {"ENV": names, "ENV|RUN": names, "NAME": lambda: tuple(STUDIES)}
"""By what stands in the usage: the words that can be given. Others are files and directories."""

NAMED = {
    **dict.fromkeys(("--env", "--eval-env", "--envs"), names),
    "--agent": agent_names,
    "--torso": torso_names,
    **dict.fromkeys(("--engine", "--engines"), engine_names),
}
"""By flag: names that are registered."""


def _values(flag: str, choices: Sequence[str], takes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return tuple(NAMED[flag]()) if flag in NAMED else tuple(choices) or takes


BASH = """\
# What completes kilolayer's command lines in bash; `kilolayer completion bash` prints it.
_kilolayer() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before=() word command="" flag="" skip="" at
  for ((at = 1; at < COMP_CWORD; at++)); do before+=("${{COMP_WORDS[at]}}"); done
  # --flag=value comes as three words
  if [ "$current" = "=" ]; then current=""; before+=("="); fi
  if [ ${{#before[@]}} -gt 1 ] && [ "${{before[${{#before[@]}}-1]}}" = "=" ]; then unset "before[${{#before[@]}}-1]"; fi
  for word in "${{before[@]}}"; do
    if [ -n "$skip" ]; then skip=""; continue; fi
    case "$word" in
      {importing}) skip=1 ;;
      -*) ;;
      *) case "$command" in
        "") command="$word" ;;
{nested}
      esac ;;
    esac
  done
  if [ ${{#before[@]}} -gt 0 ]; then flag="${{before[${{#before[@]}}-1]}}"; fi
  local words="" flags="" takes=""
  case "$command" in
{cases}
  esac
  COMPREPLY=()
  case "$takes" in
    "") case "$current" in
      -*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
      *) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
    esac ;;
    anything) ;;
    *) COMPREPLY=($(compgen -W "$takes" -- "$current")) ;;
  esac
}}
complete -o default -F _kilolayer kilolayer"""


def bash(found: dict[str, Completed]) -> str:
    """Return a script for bash."""
    nested = "\n".join(
        f'        {command}) case "$word" in {"|".join(below)}) command="{command} $word" ;; esac ;;'
        for command, below in BELOW.items()
    )
    cases = [
        f'    "") words="{" ".join([*COMMANDS, HELP])}" flags="{FLAG} --version --help"',
        f'      case "$flag" in {FLAG}) takes=anything ;; esac ;;',
    ]
    for command, one in found.items():
        cases.append(f'    "{command}") words="{" ".join(one.words)}" flags="{" ".join([*one.flags, FLAG])}"')
        by_values: dict[str, list[str]] = {}
        for flag, values in {**one.flags, FLAG: None}.items():
            if values != ():
                by_values.setdefault("anything" if values is None else " ".join(values), []).append(flag)
        cases.append('      case "$flag" in')
        cases += [f'        {"|".join(flags)}) takes="{values}" ;;' for values, flags in by_values.items()]
        cases.append("      esac ;;")
    return BASH.format(importing=FLAG, nested=nested, cases="\n".join(cases))


def zsh(found: dict[str, Completed]) -> str:
    """Return a script for zsh, which completes as bash does."""
    return f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{bash(found)}"


def fish(found: dict[str, Completed]) -> str:
    """Return a script for fish."""
    return "\n".join(_fish(found))


def _fish(found: dict[str, Completed]) -> Iterator[str]:
    yield "# What completes kilolayer's command lines in fish; `kilolayer completion fish` prints it."
    yield f"complete -c kilolayer -l {FLAG[2:]} -r"
    for command, text in COMMANDS.items():
        yield f'complete -c kilolayer -n __fish_use_subcommand -f -a {command} -d "{text}"'
    yield f"complete -c kilolayer -n __fish_use_subcommand -f -a {HELP}"
    for command, one in found.items():
        first, *second = command.split()
        seen = f"__fish_seen_subcommand_from {first}"
        seen += f"; and __fish_seen_subcommand_from {second[0]}" if second else ""
        if first in BELOW and not second:
            seen += f"; and not __fish_seen_subcommand_from {' '.join(BELOW[first])}"
        begin = f'complete -c kilolayer -n "{seen}"'
        if one.words:
            yield f'{begin} -a "{" ".join(one.words)}"'
        for flag, values in one.flags.items():
            takes = "" if values == () else " -r" if values is None else f' -x -a "{" ".join(values or ())}"'
            yield f"{begin} -l {flag[2:]}{takes}"
