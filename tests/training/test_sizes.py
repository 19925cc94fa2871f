"""Sizes that the machine does not have are refused in one line, before anything is written."""

import jax
import pytest

import kilolayer as kl
from kilolayer import memory
from kilolayer.cli.main import main
from kilolayer.errors import ConfigurationError
from kilolayer.runs import TrainConfig
from kilolayer.training import Setup
from small_runs import flags, small_config


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--width=100000", "--depth=64"], "TiB for networks and optimisers"),
        (["--width=100000", "--depth=64"], "lower width=100000 or depth=64"),
        (["--replay-capacity=2000000000"], "GiB for the replay buffer"),
        (["--replay-capacity=2000000000"], "would fit"),
        (["--batch-size=200000", "--replay-capacity=100000", "--total-env-steps=400000"], "lower batch_size=200000"),
        (["--num-eval-envs=1000000000"], "num_eval_envs="),
        (["--num-envs=1000000000"], "total_env_steps"),
        (["--crl.critic-depth=1000000000"], "lower width=16 or crl.critic_depth=1000000000"),
        (["--depth=9223372036854775808"], "depth=9223372036854775808 must be at most 2147483647"),
        ([f"--width={2**63}"], "width=9223372036854775808 must be at most 2147483647"),
        (["--episode-length=4294967296"], "episode_length=4294967296 must be at most"),
        (["--seed=4294967296"], "seed=4294967296 must be at most 4294967295"),
        (["--seed=99999999999999999999"], "must be at most"),
        (["--seeds=0,4294967296"], "must be at most 4294967295"),
        (["--seeds=0..3", "--replay-capacity=500000000"], "fewer than 4 seeds"),
    ],
)
def test_training_is_refused_before_a_directory_is_made(tmp_path, capsys, arguments, words):
    path = tmp_path / "run"
    assert main(["train", "point_u_maze", f"--run-dir={path}", *flags(), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not path.exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("sizes") / "run"
    kl.train(config=small_config(total_env_steps=200, num_evals=1), run_dir=path, progress=False)
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes=1000000000"], "would fit"),
        (["--episodes=1000000000000"], "at most 2147483647"),
        (["--episodes=0"], "at least 1"),
        (["--seed=-1"], "at least 0"),
        (["--seed=4294967296"], "at most 4294967295"),
    ],
)
def test_evaluation_is_refused(run, capsys, arguments, words):
    assert main(["eval", str(run), *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--num-envs=1000000000000", "--num-envs=1000000000", "--num-steps=2000000000"])
def test_a_check_of_an_environment_is_refused(capsys, argument):
    assert main(["envs", "check", "point_u_maze", argument]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_the_advice_names_fits(monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 2**20)
    monkeypatch.setattr("kilolayer.training.memory.device_memory", lambda: 2**20)
    with pytest.raises(ConfigurationError, match=r"replay_capacity=\d+ would fit") as refused:
        kl.train(config=small_config(replay_capacity=100_000), run_dir="never", progress=False)
    fitting = int(str(refused.value).split("replay_capacity=")[1].split()[0])
    from kilolayer.training import Setup
    from kilolayer.training.memory import check_run_fits

    config = small_config(replay_capacity=fitting)
    check_run_fits(Setup.build(config), config)
    with pytest.raises(ConfigurationError):
        check_run_fits(Setup.build(config), config, seeds=2)


def test_the_size_of_discrete_episodes_is_known():
    from kilolayer.training.memory import run_bytes

    config = small_config(env="point_u_maze_discrete", agent="crl_discrete")
    assert run_bytes(Setup.build(config), config)["episodes of an evaluation"] > 0


@pytest.mark.parametrize("settings", [{"width": True}, {"crl": {"critic_depth": True}}, {"checkpoint_minutes": True}])
def test_a_truth_value_is_no_number(settings):
    with pytest.raises(ConfigurationError, match="must not be true or false"):
        TrainConfig.from_dict(small_config().to_dict() | settings)


@pytest.mark.parametrize(("size", "text"), [(3, "3 bytes"), (2**20, "1 MiB"), (3.5 * 2**40, "3.5 TiB")])
def test_sizes_have_units(size, text):
    assert memory.readable(size) == text


@pytest.mark.parametrize(("seeds", "collector_depth", "copies"), [(1, None, 1), (8, None, 8), (3, 4, 6)])
def test_rematerialisation_counts_all_agents_that_share_the_memory(seeds, collector_depth, copies, monkeypatch):
    shares = []

    def choose(*arguments, memory, **sizes):
        shares.append(memory)
        return "layer"

    monkeypatch.setattr("kilolayer.nn.stack.choose_remat", choose)
    monkeypatch.setattr("kilolayer.nn.stack.device_memory", lambda: 48_000)
    setup = Setup.build(small_config(collector_depth=collector_depth), seeds=seeds)
    jax.eval_shape(setup.agent.init, jax.random.key(0))
    assert set(shares) == {48_000 // copies}
