"""Any runs side by side: what differs are the labels, seeds are together, and what cannot be compared is named."""

import csv
import dataclasses
import json
import shutil

import pytest

from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.report.style import PALETTE
from kilolayer.runs import RunDirectory, default_config
from kilolayer.studies import compare, table
from kilolayer.studies.core.compare import _titles, find_runs, group, labels
from small_runs import small_config

SUCCESS, TIME = "eval/success_any", "eval/time_at_goal"


def write_run(path, *, evaluations=3, metrics=(SUCCESS, TIME), **settings):
    """Write a run directory as training leaves it, without training."""
    config = small_config(**settings)
    run = RunDirectory.create(path, config)
    rows = [
        {"env_steps": 100 * number, "gradient_steps": number, "perf/seconds": 1.0 * number}
        | dict.fromkeys(metrics, 0.1 * number * (1 + config.seed))
        for number in range(evaluations)
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def titles(study, outcomes):
    figure = study.draw(outcomes)
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_runs_of_a_study_are_its_cases(finished_study, tmp_path, capsys):
    directory, outcomes = finished_study
    assert main(["compare", str(directory), "--results", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["depth"], row["seeds"]) for row in rows] == [(0, 2), (4, 2)]
    assert "task" not in rows[0]
    scores = [one.score(TIME) for one in outcomes[2:]]
    assert rows[1][TIME] == sum(scores) / 2
    names = {"curves.csv", "scores.csv", "study.json", "compare.png", "index.html"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    curves = list(csv.DictReader((tmp_path / "out" / "curves.csv").read_text().splitlines()))
    assert len(curves) == sum(len(one.rows) for one in outcomes)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "2 cases, 2 seeds each." in page
    assert "IQM, range" in page
    assert "IQM, 95 % interval" not in page
    assert f"kilolayer compare {directory}" in page

    (group_path,) = (directory / outcomes[2].case.directory).iterdir()
    paths = [str(group_path), str(outcomes[0].run.path)]
    assert main(["compare", *paths, "--results", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"figure: {tmp_path / 'out' / 'compare.png'}" in out
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["0", "untrained", "4", "untrained"]


def test_runs_are_found_once_however_they_are_named(tmp_path, monkeypatch):
    first = write_run(tmp_path / "a" / "deep" / "one")
    write_run(tmp_path / "a" / "two", seed=1)
    write_run(tmp_path / "a" / "two" / "checkpoints" / "inside", seed=2)  # no place for a run of its own
    monkeypatch.chdir(tmp_path)
    found = find_runs(["a", first, "a/deep"])
    assert [str(run.path) for run in found] == ["a/deep/one", "a/two"]


def test_labels_are_the_settings_that_differ():
    configs = [
        small_config(depth=4),
        small_config(depth=8),
        small_config(depth=8, crl={"energy": "dot"}),
        small_config(depth=8, width=12),
        small_config(depth=8, agent="sac"),
    ]
    found = labels(configs)
    assert [list(one) for one in found] == [["agent", "depth", "width", "crl.energy"]] * 5
    assert [tuple(one.values()) for one in found] == [
        ("crl", 4, 16, "l2"),
        ("crl", 8, 16, "l2"),
        ("crl", 8, 16, "dot"),
        ("crl", 8, 12, "l2"),
        ("sac", 8, 16, ""),
    ]
    assert labels(configs[:1]) == [{"agent": "crl", "env": "point_u_maze", "depth": 4}]


def test_what_only_follows_is_no_label():
    """Of the task, the agent and the variant: what to evaluate in, the engine, and all that their presets say."""
    configs = [default_config("point_u_maze"), default_config("ant_big_maze"), default_config("humanoid")]
    assert labels(configs) == [{"env": config.env} for config in configs]
    assert len({config.width for config in configs} | {config.eval_env for config in configs}) > 3
    agents = [default_config("reacher", agent=agent) for agent in ("crl", "ppo", "qrl")]
    assert labels(agents) == [{"agent": config.agent} for config in agents]
    variants = [default_config("humanoid", variant=variant) for variant in ("default", "paper")]
    assert labels(variants) == [{"variant": "default"}, {"variant": "paper"}]
    wide = [default_config("point_u_maze", width=32), default_config("ant_big_maze", width=64)]
    assert labels(wide) == [{"env": "point_u_maze", "width": 32}, {"env": "ant_big_maze", "width": 64}]


def test_environments_that_are_not_registered_here_can_be_compared(tmp_path):
    mine = dataclasses.replace(small_config(), env="my_robot", eval_env="my_robot", engine="mjx", episode_length=30)
    assert labels([mine, small_config()]) == [{"env": "my_robot"}, {"env": "point_u_maze"}]
    other = dataclasses.replace(mine, engine="mujoco")
    assert labels([mine, other]) == [{"engine": "mjx"}, {"engine": "mujoco"}]


def test_curves_are_named_by_the_labels_that_tell_them_apart():
    scratch = {"agent": "crl", "depth": 4, "total_env_steps": 400, "distill.weighting": ""}
    teacher = scratch | {"depth": 16, "total_env_steps": 1600}
    students = [scratch | {"agent": "distill", "distill.weighting": name} for name in ("none", "critic")]
    assert _titles([scratch, teacher]) == ["depth 4", "depth 16"]
    assert _titles([scratch, teacher, students[0]]) == ["crl, depth 4", "crl, depth 16", "distill, depth 4"]
    assert _titles([scratch, *students]) == [
        "crl",
        "distill, distill.weighting none",
        "distill, distill.weighting critic",
    ]
    assert _titles([teacher]) == ["crl, depth 16, total_env_steps 1600"]


def test_mazes_and_settings_that_are_no_numbers_have_short_labels():
    mazes = ["#####\n#R G#\n#####\n", "######\n#R  G#\n######\n"]
    found = [one["env"] for one in labels([small_config(env=maze) for maze in mazes])]
    assert all(name.startswith("maze-") and len(name) == 11 for name in found)
    assert found[0] != found[1]
    chunks = [one["grow"] for one in labels([small_config(depth=8), small_config(depth=8, grow="4@0,8@200")])]
    assert chunks == ["None", "4@0,8@200"]


def test_what_is_only_written_down_sets_no_run_apart(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=1, diagnostics=True, checkpoints_to_keep=1)
    assert [one.case.labels["depth"] for one in group(find_runs([tmp_path]))] == [4, 4]
    study, outcomes = compare([tmp_path])
    assert [row["seeds"] for row in table(study, outcomes)] == [2]


def test_cases_and_seeds_are_in_order(tmp_path):
    for number, (depth, seed) in enumerate([(16, 1), (4, 0), (8, 0), (16, 0)]):
        write_run(tmp_path / str(number), depth=depth, seed=seed)
    outcomes = group(find_runs([tmp_path]))
    assert [(one.case.labels["depth"], one.seed) for one in outcomes] == [(4, 0), (8, 0), (16, 0), (16, 1)]


def test_unequal_numbers_of_evaluations_and_metrics_break_nothing(tmp_path, capsys):
    write_run(tmp_path / "a", evaluations=2)
    write_run(tmp_path / "b", evaluations=5, seed=1)
    write_run(tmp_path / "c", evaluations=4, depth=8, metrics=(TIME,))
    assert main(["compare", str(tmp_path), "--results", str(tmp_path / "out"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["seeds"] for row in rows] == [2, 1]
    assert rows[1][SUCCESS] is None
    assert rows[1][TIME] == pytest.approx(0.15)
    assert "2 cases, 1 to 2 seeds each." in (tmp_path / "out" / "index.html").read_text()
    study, outcomes = compare([tmp_path])
    assert titles(study, outcomes) == ["depth 4", "depth 8"]
    time, success = study.draw(outcomes).axes
    curves = [[line for line in axes.lines if line.get_linestyle() == "-"] for axes in (time, success)]
    assert [len(lines) for lines in curves] == [4, 3]
    assert curves[1][2].get_xdata().tolist() == [0.0, 100.0]


def test_metrics_can_be_named_shortly(tmp_path):
    write_run(tmp_path / "a", metrics=(SUCCESS, "train/critic_loss"))
    study, outcomes = compare([tmp_path], metrics=("success_any", "train/critic_loss"))
    assert study.metrics == (SUCCESS, "train/critic_loss")
    assert len(study.draw(outcomes).axes) == 2
    with pytest.raises(ConfigurationError, match="metrics='sucess_any' is in none of the runs; did you mean eval/succ"):
        compare([tmp_path], metrics=("sucess_any",))
    with pytest.raises(ConfigurationError, match="metrics='zzz' is in none of the runs; there are env_steps, eval/"):
        compare([tmp_path], metrics=("zzz",))


def test_runs_that_are_not_at_their_end_are_named(tmp_path, capsys):
    end = small_config().timetable.end.env_steps
    for seed, steps in enumerate([end, end // 5]):
        run = write_run(tmp_path / f"seed-{seed}", evaluations=1, seed=seed)
        row = json.loads((run / "metrics.jsonl").read_text()) | {"env_steps": steps}
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ["compare", str(tmp_path), "--results", str(tmp_path / "out")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line == f"{tmp_path / 'seed-1'} is not at its end: {end // 5:,} env steps of {end:,} env steps"
    assert "2 (1 unfinished)" in captured.out
    assert "2 (1 unfinished)" in (tmp_path / "out" / "index.html").read_text()
    assert main([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["seeds"], row["unfinished"], row["eval/success_any_interval"]) == (2, 1, "range")


def test_more_cases_than_colours_are_reported(tmp_path, capsys):
    count = len(PALETTE) + 1
    for number in range(count):
        write_run(tmp_path / str(number), evaluations=5, width=8 + number)
    assert main(["compare", str(tmp_path), "--results", str(tmp_path / "out"), "--json"]) == 0
    assert (
        capsys.readouterr().err == f"{count} cases are more than the {count - 1} colours that are easy to distinguish\n"
    )
    study, outcomes = compare([tmp_path])
    figure = study.draw(outcomes)
    assert len({line.get_color() for line in figure.axes[0].lines}) == count


def test_what_cannot_be_compared_is_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "a" / "seed-0")
    (tmp_path / "empty").mkdir()
    fresh = write_run(tmp_path / "fresh", evaluations=0)
    shutil.copytree(run, tmp_path / "b")
    for paths, words in (
        ([], "there is nothing to compare"),
        ([tmp_path / "empty"], f"{tmp_path / 'empty'} cannot be compared: there are no runs in it"),
        ([tmp_path / "nowhere"], f"{tmp_path / 'nowhere'} cannot be compared: there is no such directory"),
        ([fresh], f"{fresh} has no evaluations yet"),
        ([run, tmp_path / "b"], f"{run} and {tmp_path / 'b'} have the same settings and seed 0"),
    ):
        with pytest.raises(RunError) as refused:
            compare(paths)
        assert words in str(refused.value)
    assert main(["compare", str(fresh), "--results", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"kilolayer: error: {fresh} has no evaluations yet"
    assert not (tmp_path / "out").exists()


def test_a_search_for_runs_ends(tmp_path, monkeypatch, capsys):
    """`compare /` is a slip: it would go through all of a disk."""
    monkeypatch.setattr("kilolayer.studies.core.compare.MOST_DIRECTORIES", 5)
    for place in range(8):
        (tmp_path / f"folder-{place}").mkdir()
    assert main(["compare", str(tmp_path), "--results", str(tmp_path / "out")]) == 2
    assert "holds more than 5 directories to look for runs in; give one nearer to them" in capsys.readouterr().err
