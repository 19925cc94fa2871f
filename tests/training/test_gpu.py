"""What needs a GPU to be seen."""

import jax
import numpy as np
import pytest

import kilolayer as kl
from small_runs import small_config

ENGINES = {"point": "point_u_maze", "mujoco": "reacher", "mjx": "reacher", "mjx-warp": "reacher", "spring": "ant"}


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ENGINES)
def test_the_whole_loop_runs_on_a_gpu_and_resumes_from_its_checkpoint(tmp_path, engine):
    assert jax.default_backend() == "gpu"
    config = small_config(env=ENGINES[engine], engine=engine)
    kl.train(config=config, run_dir=tmp_path / "run", progress=False)
    result = kl.train(resume=tmp_path / "run", total_env_steps=800, progress=False)
    assert result.env_steps == 800
    assert np.isfinite(result.metrics["train/critic_loss"])


@pytest.mark.gpu
def test_the_host_collects_beside_the_gpu_and_resumes(tmp_path):
    config = small_config(env="reacher", engine="mujoco", overlap=True)
    kl.train(config=config, run_dir=tmp_path / "run", progress=False)
    result = kl.train(resume=tmp_path / "run", total_env_steps=800, progress=False)
    assert result.env_steps == 800
    assert np.isfinite(result.metrics["train/critic_loss"])
