"""Runs of format 1: their policies act as they did, and they are not resumed."""

import json
import shutil

import jax
import numpy as np
import pytest

import kilolayer as kl
from kilolayer.agents import agent_names, agent_spec
from kilolayer.cli.main import main
from kilolayer.runs import RunDirectory, default_config
from kilolayer.runs.old_format import BLOCKS, READS, upgrade_settings
from small_runs import final_state, small_config


def old_settings(config):
    """Return the settings of a run as format 1 had them."""
    settings = config.to_dict()
    block = settings.pop(config.agent)
    settings.pop("torso")
    settings.pop("optimizer")
    architecture = settings["architecture"]
    if "remat" in architecture:
        architecture["checkpoint"] = architecture.pop("remat")
    settings |= {name: {} for name in BLOCKS}
    own = READS.get(config.agent, (config.agent,))
    for new, (name, old) in {"relabel_ratio": ("her", "ratio"), "policy_temperature": (own[-1], "temperature")}.items():
        if new in block:
            settings[name] = {old: block.pop(new)}
    settings[own[0]] = block
    if config.agent == "crl_discrete":
        settings["crl"] = block | {"actor_goals": "hindsight", "action_chunk": 1}
    return settings


@pytest.mark.parametrize("agent", agent_names())
def test_settings_keep_their_values(agent):
    env = "point_u_maze_discrete" if agent_spec(agent).discrete else "point_u_maze"
    own = {"sac_her": {"relabel_ratio": 0.25}, "crl_discrete": {"policy_temperature": 0.5, "temperature": 2.0}}
    config = default_config(env, agent=agent, depth=8, **{agent: own.get(agent, {})})
    assert kl.TrainConfig.from_dict(upgrade_settings(old_settings(config))) == config


def test_an_unknown_setting_is_not_dropped():
    settings = old_settings(default_config("point_u_maze"))
    settings["crl"]["surprise"] = 1
    with pytest.raises(kl.ConfigurationError, match=r"'crl\.surprise' is unknown"):
        kl.TrainConfig.from_dict(upgrade_settings(settings))


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """A run as format 1 left it: no policies in its checkpoints."""
    path = tmp_path_factory.mktemp("old") / "run"
    kl.train(config=small_config(), run_dir=path, progress=False)
    directory = RunDirectory.open(path)
    directory.config_file.write_text(json.dumps({"format": 1, **old_settings(directory.config())}))
    for policy in path.glob("checkpoints/*/policy"):
        shutil.rmtree(policy)
    return path


def test_the_policy_acts_as_it_did(old_run, capsys):
    policy = kl.load(old_run)
    assert (policy.env_steps, policy.contract.gradient_steps) == (400, 24)
    assert kl.load(old_run, checkpoint=200).env_steps == 200
    found, expected = policy.agent_state.actor, final_state(old_run).agent.actor
    for leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(leaf, other)
    assert main(["eval", str(old_run), "--episodes=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps"] == 400


def test_it_is_not_resumed(old_run):
    with pytest.raises(kl.RunError, match=r"older kilolayer \(format 1\).*not resumed; resume it with kilolayer 0.1.0"):
        kl.train(resume=old_run, progress=False)
    assert main(["train", f"--resume={old_run}", "--quiet"]) == 2


def test_a_damaged_checkpoint_is_one_line(old_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(old_run, copy)
    for path in (copy / "checkpoints" / "400" / "agent").rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(kl.RunError, match=r"checkpoint .*400 is damaged") as error:
        kl.load(copy)
    assert "\n" not in str(error.value)
