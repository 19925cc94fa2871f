"""One vocabulary: the same flag looks and means the same in every command, lists are written one way."""

import re
from pathlib import Path

import pytest

from kilolayer.cli import help as helping
from kilolayer.cli import lists
from kilolayer.cli.commands import BELOW, COMMANDS
from kilolayer.cli.main import main
from kilolayer.cli.parsers import commands, parser
from kilolayer.cli.spellings import FORMER, SHORT, in_full
from kilolayer.errors import ConfigurationError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command_line.md"

LISTS = {"NAME,...", "NAME=VALUE,...", "N,...", "SEED,..."}
"""What stands for a list behind a flag."""


@pytest.fixture(scope="module")
def parsers():
    return {" ".join(words): parser(*words) for words in commands()}


@pytest.fixture(scope="module")
def words():
    """The vocabulary of the reference: what each shared word is, by flag or positional argument."""
    rows = re.findall(r"^\| `(--[a-z-]+|[A-Z]+)[^`|]*`[^|]*\| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {name: what.strip().rstrip(".").replace("`", "") for name, what in rows}


def shared(parsers):
    """Each flag outside of blocks, and each positional argument, by the commands that take it."""
    found: dict[str, dict] = {}
    for command, one in parsers.items():
        for action in one._actions:
            name = action.option_strings[0] if action.option_strings else str(action.metavar)
            if "." not in name and name != "-h":
                found.setdefault(name, {}).setdefault(command, action)
    return {name: by for name, by in found.items() if len(by) > 1}


def kind(action):
    """What a flag takes; whether None is possible, and which of the choices there are, is the command's own affair."""
    name = helping.value_name(action)
    return "a choice" if name.startswith("{") else name


def test_a_shared_flag_takes_the_same_in_every_command(parsers):
    for name, by_command in shared(parsers).items():
        kinds = {command: kind(action) for command, action in by_command.items()}
        assert len(set(kinds.values())) == 1, (name, kinds)


def test_a_shared_flag_is_explained_by_the_words_of_the_reference(parsers, words):
    for name, by_command in shared(parsers).items():
        assert name in words, f"{name} of {', '.join(by_command)} is not in {PAGE.name}"
        for command, action in by_command.items():
            assert helping.explanation(action).startswith(words[name]), (command, name, words[name])


def test_the_reference_has_no_word_that_no_command_takes(parsers, words):
    taken = {
        spelling
        for one in parsers.values()
        for action in one._actions
        for spelling in (*action.option_strings, str(action.metavar))
    }
    short = {flag for flags in SHORT.values() for flag in flags}
    assert set(words) <= taken | short | {"--import"}


def test_lists_behind_flags_are_one_word(parsers):
    for command, one in parsers.items():
        for action in one._actions:
            if action.option_strings:
                assert action.nargs in (None, 0, 1), f"{command} {action.option_strings[0]} takes words with spaces"
            if ",..." in str(action.metavar):
                assert helping.value_name(action) in LISTS


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (lists.words, "reacher,ant", ("reacher", "ant")),
        (lists.numbers, "4,16,64", (4, 16, 64)),
        (lists.numbers, "0..2,9", (0, 1, 2, 9)),
        (lists.pairs, "width=128,crl.energy=dot", ("width=128", "crl.energy=dot")),
        (lists.pairs, "grow=4@0,16@2M,width=8", ("grow=4@0,16@2M", "width=8")),
        (lists.pairs, 'crl={"energy": "dot", "loss": "x"},a=[1,2]', ('crl={"energy": "dot", "loss": "x"}', "a=[1,2]")),
    ],
)
def test_lists_are_read(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "a", "--metrics", "success_any", "return"], "one word with commas: --metrics success_any,return"),
        (["study", "depth", "--only", "depth=4", "depth=8"], "one word with commas: --only depth=4,depth=8"),
        (["compare", "a", "--metrics", "a,,b"], "'a,,b' is no list; write words with commas"),
        (["bench", "step", "--depths", "4,deep"], "'deep' is not a number; write such as 0..7"),
        (["train", "reacher", "--seeds", "7..0"], "runs backwards; write 0..7"),
    ],
)
def test_lists_that_are_not_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# Spellings


def test_former_spellings_name_those_of_now(parsers):
    for command, flags in FORMER.items():
        taken = {flag for action in parsers[command]._actions for flag in action.option_strings}
        for former, now in flags.items():
            assert now in taken
            assert former not in taken
            for argument in (former, f"{former}=3"):
                with pytest.raises(ConfigurationError, match=f"^{former} of kilolayer {command} is called {now} now$"):
                    in_full([argument], command=command)


def test_short_spellings_are_those_of_a_flag(parsers):
    for command, flags in SHORT.items():
        taken = {flag for action in parsers[command]._actions for flag in action.option_strings}
        for short, full in flags.items():
            assert full in taken
            assert short not in taken
            assert in_full([short, "5", f"{short}=6"], command=command) == [full, "5", f"{full}=6"]


def test_steps_are_env_steps(capsys):
    from kilolayer.cli.train_options import parse_train

    assert parse_train(["reacher", "--steps", "800000"])[0].settings.total_env_steps == 800_000


# Help


def test_help_command_is_command_help(capsys):
    for words in (["train", "reacher"], ["study"], ["bench", "step"], ["envs", "check"], ["envs"], ["bench"]):
        assert main(["help", *words]) == 0
        shown = capsys.readouterr().out
        assert main([*words, "--help"]) == 0
        assert capsys.readouterr().out == shown
        assert shown.startswith(f"usage: kilolayer {words[0]}")
    assert main(["help"]) == main(["help", "help"]) == main(["help", "--help"]) == 0
    capsys.readouterr()
    assert main(["help"]) == 0
    shown = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == shown
    for command in COMMANDS:
        assert f"\n  {command} " in shown


@pytest.mark.parametrize(
    ("words", "nearest"), [(["trian"], "train"), (["envs", "shwo"], "show"), (["bench", "stp"], "step")]
)
def test_help_for_what_is_not_there_names_the_nearest(words, nearest, capsys):
    assert main(["help", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"is unknown; did you mean .*{nearest}", line)


def test_help_of_train_has_what_people_use_first(capsys):
    assert main(["train", "point_u_maze", "--help"]) == 0
    short = capsys.readouterr().out
    first = short[short.index("used first:") : short.index("more options:")]
    flags = re.findall(r"^  (--[a-z-]+)", first, re.MULTILINE)
    assert len(flags) == 10
    assert flags[:3] == ["--agent", "--depth", "--total-env-steps"]
    assert "--total-env-steps, --steps INT" in first
    assert "(default: 4)" in first
    assert "--help-all" in short
    assert main(["train", "point_u_maze", "--help-all"]) == 0
    everything = capsys.readouterr().out
    assert first in everything
    for flag in re.findall(r"--[a-z.-]*[a-z]", short[short.index("more options:") :]):
        if flag != "--help-all":
            assert re.search(rf"^  {flag}\b", everything, re.MULTILINE), flag


def test_flags_to_show_first_are_there(parsers, capsys):
    for command, one in parsers.items():
        lines = helping.help_text(command, one, (), everything=True)
        assert "used first" not in lines
    for command in ("study", "distill", "prune", "render"):
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.index("used first:") < shown.index("more options:")


def test_commands_below_are_those_that_there_are():
    from kilolayer.cli.bench import BENCHES

    assert tuple(BENCHES) == BELOW["bench"]
