"""The whole loop learns on each engine: from chance to nearly every goal, within minutes on two cores."""

import pytest

import kilolayer as kl
from kilolayer.envs import spec
from kilolayer.runs import preset


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("engine", "variant"), [("mujoco", "default"), ("mjx", "default"), ("spring", "paper")])
def test_reacher_is_learnt(engine: str, variant: str, tmp_path) -> None:
    if engine == "spring":
        pytest.importorskip("brax")
    settings = {"episode_length": spec("reacher").episode_length, **preset("reacher")}
    result = kl.train("reacher", engine=engine, variant=variant, run_dir=tmp_path / "run", progress=False, **settings)
    first, *_, last = result.run.metrics()
    assert last["eval/success_any"] >= 0.9
    # An untrained arm that swings passes many goals on its way; it does not stay at them.
    assert first["eval/success_final"] < 0.5
    assert last["eval/time_at_goal"] > 2.5 * first["eval/time_at_goal"]
