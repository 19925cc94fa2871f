"""`kilolayer envs show`: the entries of a task by name, its control step, its engines."""

import json

import pytest

from kilolayer.cli.main import main
from kilolayer.envs import EnvironmentSpec, names, register, registry
from kilolayer.envs.tasks import Reacher


def shown(capsys, *arguments: str) -> dict:
    assert main(["envs", "show", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_show_prints_every_entry_with_its_index(capsys):
    assert main(["envs", "show", "reacher"]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert {"0 cosine of joint0 angle joint0 body0", "9 tip velocity z (m/s) m/s", "1 tip y (m) m"} <= set(lines)
    assert "0 joint0 torque (-200 to 200 N m) N m joint0 body0" in lines
    assert "control step 0.02 s" in lines
    assert "episode 100 steps" in lines
    assert "engine mujoco (default): MuJoCo's C engine on all cores of the CPU" in lines
    assert "for NVIDIA GPUs; needs pip install 'kilolayer[warp]'" in " ".join(out.split())


def test_show_as_json_depends_on_the_variant(capsys):
    default, paper = shown(capsys, "humanoid"), shown(capsys, "humanoid", "--variant=paper")
    assert (default["control_step"], paper["control_step"]) == (0.015, 0.03)
    assert (default["default_engine"], paper["default_engine"]) == ("mujoco", "spring")
    assert (len(default["observation"]), len(paper["observation"])) == (246, 268)
    assert "spring" not in {engine["name"] for engine in default["engines"]}
    assert default["goal"] == ["torso x (m)", "torso y (m)", "torso z (m)"]


def test_a_control_step_is_the_engines_where_the_task_has_none(capsys):
    about = shown(capsys, "point_u_maze")
    assert about["control_step"] == 0.1
    assert about["eval_env"] == "point_u_maze_eval"
    assert [engine["name"] for engine in about["engines"]] == ["point"]


def test_a_maze_file_can_be_shown(capsys, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("#####\n#R.G#\n#####\n")
    assert shown(capsys, str(file))["observation"][0] == "disc x (m)"


class Unnamed(Reacher):
    """Observes something else, without names."""

    def observe(self, state):
        return state.qpos


def test_a_task_without_names_says_how_to_give_them(capsys):
    register(EnvironmentSpec("unnamed", "no names", task=Unnamed))
    try:
        assert main(["envs", "show", "unnamed"]) == 0
        assert "its `observation_names`" in capsys.readouterr().out
        assert shown(capsys, "unnamed")["observation"] is None
    finally:
        registry.unregister("unnamed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reachr"], "did you mean reacher"),
        (["point_u_maze", "--variant=paper"], "has no variant 'paper'"),
        ([], "ENV"),
    ],
)
def test_what_cannot_be_shown_is_one_line(capsys, arguments, words):
    assert main(["envs", "show", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_the_list_names_every_environment(capsys):
    assert main(["envs", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == names()
