"""The whole loop learns on each engine: from chance to nearly every goal, within minutes on two cores."""

import pytest

import kilolayer as kl
from kilolayer.envs.catalog import ARM_TRAINING


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("engine", "variant"), [("mujoco", "default"), ("mjx", "default"), ("spring", "paper")])
def test_reacher_is_learnt(engine: str, variant: str, tmp_path) -> None:
    if engine == "spring":
        pytest.importorskip("brax")
    result = kl.train(
        "reacher", engine=engine, variant=variant, run_dir=tmp_path / "run", progress=False, **ARM_TRAINING
    )
    curve = [row["eval/success_any"] for row in result.run.metrics()]
    assert curve[0] < 0.5
    assert curve[-1] >= 0.9
