"""Shell completion, as bash asks for it: words so far, and what can stand next."""

import shutil
import subprocess

import pytest

from kilolayer.agents import agent_names
from kilolayer.cli import completion
from kilolayer.cli.commands import COMMANDS
from kilolayer.cli.main import main
from kilolayer.envs import names

ASK = """
source "$1"; shift
complete -p kilolayer
for line in "$@"; do
  IFS='|' read -r -a COMP_WORDS <<< "$line"
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  if [ "${COMP_WORDS[COMP_CWORD]}" = "-" ]; then COMP_WORDS[COMP_CWORD]=""; fi
  _kilolayer
  echo "${COMPREPLY[@]}"
done
"""
"""Completes lines whose words have | between them; a last word - stands for an empty one."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script for each shell."""
    folder = tmp_path_factory.mktemp("completion")
    found = completion.completions()
    for write in (completion.bash, completion.zsh, completion.fish):
        (folder / write.__name__).write_text(write(found))
    return {path.name: path for path in folder.iterdir()}


def completed(scripts, *lines: str) -> list[list[str]]:
    asked = ["bash", "--norc", "-c", ASK, "bash", str(scripts["bash"]), *lines]
    result = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    kind, *answers = result.stdout.splitlines()
    assert kind == "complete -o default -F _kilolayer kilolayer"
    return [answer.split() for answer in answers]


def test_bash_completes_commands_flags_and_names(scripts):
    commands, envs, agents, blocks, modes, below, short = completed(
        scripts,
        "kilolayer|-",
        "kilolayer|train|point_u_m",
        "kilolayer|train|reacher|--agent|-",
        "kilolayer|train|reacher|--sac.disc",
        "kilolayer|eval|runs/x|--mode|-",
        "kilolayer|bench|st",
        "kilolayer|train|--ste",
    )
    assert commands == [*COMMANDS, "help"]
    assert envs == [name for name in names() if name.startswith("point_u_m")]
    assert agents == list(agent_names())
    assert blocks == ["--sac.discount"]
    assert modes == ["deterministic", "stochastic", "best_of"]
    assert below == ["step"]
    assert short == ["--steps"]


def test_bash_knows_what_came_before(scripts):
    lines = {
        "kilolayer|--import|my.py|envs|ch": ["check"],
        "kilolayer|envs|check|arm_rea": ["arm_reach"],
        "kilolayer|bench|step|--ag": ["--against"],
        "kilolayer|bench|act|--ag": [],
        "kilolayer|study|stit": ["stitching"],
        "kilolayer|help|comp": ["compare", "completion"],
        "kilolayer|train|reacher|--agent|=|sac_": ["sac_her"],  # --agent=sac_
        "kilolayer|train|--run-dir|tr": [],  # files, which bash completes by itself
        "kilolayer|completion|-": ["bash", "zsh", "fish"],
    }
    assert dict(zip(lines, completed(scripts, *lines), strict=True)) == lines


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(scripts, shell):
    text = scripts[shell].read_text()
    assert "reacher" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    asked = {
        "zsh": ["zsh", "-fc", f"source {scripts['zsh']}; whence -w _kilolayer"],
        "fish": ["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C 'kilolayer train reacher --ag'"],
    }
    result = subprocess.run(asked[shell], capture_output=True, text=True, check=True)
    assert result.stdout.split()[0] in ("_kilolayer:", "--agent")


def test_another_shell_is_one_line(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
