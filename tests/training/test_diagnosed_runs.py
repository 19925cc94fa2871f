"""Diagnostics: written at each evaluation, drawn in the report, and without influence on the run."""

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.report.write import write_report
from kilolayer.runs import RunDirectory
from kilolayer.training import Setup
from small_runs import assert_same_state, final_state, small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "diagnosed"
    kl.train(config=small_config(depth=8, num_evals=4, diagnostics=True), run_dir=path, progress=False)
    return path


def test_every_evaluation_after_the_first_unrolls_has_a_row(run):
    directory = RunDirectory.open(run)
    rows = directory.diagnostics()
    evaluated = [row["env_steps"] for row in directory.metrics() if row["env_steps"] >= 80]
    assert [row["env_steps"] for row in rows] == evaluated
    assert len(evaluated) >= 3
    for row in rows:
        for network in ("actor", "phi", "psi"):
            for what in ("stream_norm", "residual_norm", "gradient_norm", "dead_units"):
                values = np.asarray(row[f"{network}/{what}"])
                assert values.shape == (2,)
                assert np.all(np.isfinite(values))
            assert np.all(np.asarray(row[f"{network}/gradient_norm"]) > 0.0)
        for network in ("phi", "psi"):
            assert 1.0 <= row[f"{network}/effective_rank"] <= 16.0
            assert row[f"{network}/spread"] > 0.0


def test_looking_changes_nothing(run, tmp_path):
    plain = tmp_path / "plain"
    kl.train(config=small_config(depth=8, num_evals=4), run_dir=plain, progress=False)
    assert_same_state(final_state(run), final_state(plain))
    assert not RunDirectory.open(plain).diagnostics_file.exists()


@pytest.mark.slow
def test_a_resumed_run_drops_the_rows_it_repeats(run, tmp_path):
    steps = [row["env_steps"] for row in RunDirectory.open(run).diagnostics()]
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in run.rglob("*"):
        target = copy / path.relative_to(run)
        target.mkdir(parents=True, exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    kl.train(resume=copy, checkpoint=steps[-2], progress=False)
    again = RunDirectory.open(copy).diagnostics()
    assert [row["env_steps"] for row in again] == steps
    assert again == RunDirectory.open(run).diagnostics()


@pytest.mark.slow
def test_the_report_draws_them(run):
    page = write_report(run).read_text()
    assert "Inside the networks" in page
    assert (run / "figures" / "diagnostics.png").stat().st_size > 20_000


@pytest.mark.slow
def test_an_agent_diagnoses_without_learning(run):
    state = final_state(run)
    agent = Setup.build(RunDirectory.open(run).config()).agent
    first, second = (agent.diagnose(state.agent, state.buffer, jax.random.key(0)) for _ in range(2))
    assert set(first) == set(RunDirectory.open(run).diagnostics()[0]) - {"env_steps", "gradient_steps"}
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
