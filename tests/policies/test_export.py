"""Export: what is written acts as the library does, at any batch, or is refused in one line with nothing written."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_cases import case_of, edit_json, pairs_of

import kilolayer
from kilolayer.agents import CRL, agent_names
from kilolayer.errors import ConfigurationError, RunError
from kilolayer.nn import ResidualMLP, torso_names
from kilolayer.policies import export as exports
from kilolayer.policies.export import Exporter, Written, export_policy, exporter_names, onnx_model, register_exporter
from kilolayer.policies.export.onnx_model import build_model, session

pytestmark = pytest.mark.usefixtures("export_packages")

TORSOS = [(agent, {"torso": torso}) for agent in ("crl",) for torso in torso_names()]
CHUNKS = ("crl", {"crl": {"action_chunk": 3}})
FAST = [*TORSOS, CHUNKS, ("ppo", {})]
SLOW = [
    *((agent, {"torso": torso}) for agent in agent_names() for torso in torso_names()),
    ("crl", {"collector_depth": 8}),
    ("crl", {"architecture": {"precision": "bfloat16"}}),
    ("crl", {"architecture": {"activation": "gelu", "normalization": "rms"}}),
    ("crl", {"architecture": {"activation": "relu", "normalization": "none", "residual": False}}),
    ("crl", {"depth": 0}),
    ("td3", {"architecture": {"residual_scaling": "inverse_sqrt"}, "depth": 12}),
]


@pytest.fixture(scope="module")
def policy():
    return case_of("crl", depth=8)[2]


def columns(table, part):
    """Return the columns of a part of a table."""
    return np.stack([table[name] for name in table.dtype.names if re.fullmatch(rf"{part}_\d+", name)], axis=1)


def ran(directory, exported, pair):
    """Return what an export does, read from its files alone."""
    data = json.loads((directory / "policy.json").read_text())["exported"]
    if data["format"] == "jax":
        with open(directory / "policy.stablehlo", "rb") as file:
            return np.asarray(jax.export.deserialize(bytearray(file.read())).call(*pair))
    (output,) = data["outputs"]
    return session(directory / "policy.onnx").run(
        [output], dict(zip(("observation", "desired_goal"), pair, strict=True))
    )[0]


@pytest.mark.parametrize(
    "case",
    [*FAST, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)],
    ids=lambda case: re.sub(r"\W+", "_", str(case)),
)
def test_every_torso_and_agent_acts_as_the_library_does_or_is_refused(tmp_path, case):
    agent, settings = case
    policy = case_of(agent, **settings)[2]
    if policy.agent.actor(policy.agent_state) is None:
        with pytest.raises(ConfigurationError, match=f"^agent='{agent}' has no actor network to export$"):
            export_policy(policy, tmp_path / "no")
        assert not list(tmp_path.iterdir())
        return
    pair = pairs_of(policy, batch=7)
    expected = policy.chunk(*pair)
    if policy.agent.executed_actions == 1:
        expected = expected[:, 0]
    for format in exporter_names():
        exported = export_policy(policy, tmp_path / format, format=format)
        assert exported.largest_difference <= exported.tolerance
        np.testing.assert_allclose(ran(tmp_path / format, exported, pair), expected, atol=exported.tolerance)
    assert np.ptp(expected, axis=0).max() > 1e-3


def test_the_contract_says_what_is_written(tmp_path, policy):
    recorded = pairs_of(policy, batch=80)
    exported = export_policy(policy, tmp_path / "made" / "here", recorded=recorded)
    folder = tmp_path / "made" / "here"
    assert (
        exported.files == ("check.csv", "policy.json", "policy.onnx") == tuple(sorted(p.name for p in folder.iterdir()))
    )
    data = json.loads((folder / "policy.json").read_text())
    about = data.pop("exported")
    assert data.pop("format") == 1
    assert data == json.loads(str(policy.contract))
    assert about["inputs"]["observation"] == {"shape": ["batch", policy.observation_size], "type": "float32"}
    assert about["outputs"] == {"action": {"shape": ["batch", policy.action_size], "type": "float32"}}
    assert about["sha256"].keys() == {"check.csv", "policy.onnx"}
    assert about["versions"].keys() == {"kilolayer", "jax", "onnx", "onnxruntime"}
    table = np.genfromtxt(folder / "check.csv", delimiter=",", names=True, dtype=np.float32)
    rows = {part: columns(table, part) for part in ("observation", "desired_goal", "action")}
    assert len(rows["action"]) == about["checked"]["rows"] == 90  # 60 recorded ones of 80, and random ones
    assert (rows["observation"][0] == recorded[0][0]).all()
    np.testing.assert_allclose(rows["action"], policy(rows["observation"], rows["desired_goal"]), atol=1e-5)
    with pytest.raises(RunError, match=r"here is an export, which other programs run; load the policy"):
        kilolayer.load(folder)


def test_int8_is_smaller_and_says_how_far_it_is_off(tmp_path, policy):
    for format in exporter_names():
        exact, rounded = (
            export_policy(policy, tmp_path / f"{format}-{precision}", format=format, precision=precision)
            for precision in ("float32", "int8")
        )
        assert exact.largest_difference < 1e-5 < rounded.largest_difference <= rounded.tolerance == 0.1
    import onnx

    model = onnx.load(tmp_path / "onnx-int8" / "policy.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") == 8  # the blocks' layers; the first and the last stay as they were
    assert kinds.count("MatMul") == 2


def test_a_deep_network_is_a_loop_of_few_nodes(tmp_path):
    def nodes(depth):
        network = ResidualMLP(7, 3, depth=depth, width=8, key=jax.random.key(0))
        model = build_model(lambda x: network.infer(x), {"x": 7}, "y")
        model.save(tmp_path / "model.onnx")
        x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
        for rows in (x[:1], x):
            found = session(tmp_path / "model.onnx").run(None, {"x": rows})[0]
            np.testing.assert_allclose(found, network(jnp.asarray(rows)), atol=1e-4)
        return [node.op_type for node in model.nodes]

    assert nodes(256) == nodes(1024)
    assert nodes(256).count("Scan") == 1
    assert "Scan" not in nodes(16)


def test_constants_beyond_the_limit_of_a_file_go_beside_it(tmp_path, policy, monkeypatch):
    monkeypatch.setattr(onnx_model, "LARGEST_FILE", 100)
    monkeypatch.setattr(onnx_model, "SMALL_CONSTANT", 100)
    exported = export_policy(policy, tmp_path / "made")
    assert exported.files == ("check.csv", "policy.json", "policy.onnx", "policy.onnx.data")
    pair = pairs_of(policy)
    np.testing.assert_allclose(ran(tmp_path / "made", exported, pair), policy(*pair), atol=1e-4)


@pytest.fixture
def formats(monkeypatch):
    """Formats that a test registers are forgotten."""
    monkeypatch.setattr(exports.exporter, "_EXPORTERS", dict(exports.exporter._EXPORTERS))


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_an_export_that_acts_otherwise_is_refused_and_nothing_is_left(tmp_path, policy, formats, wrong):
    def write(exportable, directory):
        (directory / "file").write_text("something")
        return Written(lambda *pair: np.asarray(exportable.function(*pair)) + wrong, {})

    register_exporter(Exporter("mine", "a format of one's own", write))
    with pytest.raises(
        ConfigurationError, match=r"^format='mine' .* differ by up to (0\.01|nan), and 0\.0001 is allowed"
    ):
        export_policy(policy, tmp_path / "new" / "folder", format="mine")
    assert not list(tmp_path.iterdir())


def test_what_has_no_form_is_named(tmp_path, policy, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"^format='onx' is unknown; did you mean onnx\?"):
        export_policy(policy, tmp_path / "no", format="onx")
    monkeypatch.setattr(CRL, "actor", lambda self, state: Sorting(state.actor))
    with pytest.raises(
        ConfigurationError, match=r"^the network uses the operation 'sort', which has no form in ONNX here$"
    ):
        export_policy(policy, tmp_path / "no")
    assert not list(tmp_path.iterdir())


class Sorting:
    """A network that ONNX has no form for; a pytree, so that it can be moved."""

    def __init__(self, actor):
        self.actor = actor

    def infer(self, x):
        return jnp.sort(self.actor.infer(x))


jax.tree_util.register_pytree_node(Sorting, lambda node: ((node.actor,), None), lambda _, leaves: Sorting(*leaves))


def test_folders_that_exist_or_cannot_be_written_are_refused(tmp_path, policy):
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match="taken exists already; choose another directory"):
        export_policy(policy, tmp_path / "taken")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"inside cannot be written: (Not a directory|File exists)"):
        export_policy(policy, tmp_path / "file" / "inside")
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "file"}


def test_a_missing_package_is_named(tmp_path, policy, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        ConfigurationError, match=r"needs the package onnxruntime, .*pip install 'kilolayer\[export\]'$"
    ):
        export_policy(policy, tmp_path / "no")


def test_a_policy_with_a_wrong_digest_is_not_exported(tmp_path, policy, capsys):
    from kilolayer.cli.main import main

    policy.save(tmp_path / "policy")
    assert main(["export", str(tmp_path / "policy"), "--format", "jax"]) == 0
    assert (tmp_path / "policy" / "export" / "jax-0" / "policy.stablehlo").is_file()
    edit_json(tmp_path / "policy" / "policy.json", lambda data: data["weights"].update(sha256="0" * 64))
    capsys.readouterr()
    assert main(["export", str(tmp_path / "policy")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "policy.safetensors is damaged" in line
    assert main(["export", str(tmp_path / "nothing")]) == 2
    assert not (tmp_path / "policy" / "export" / "onnx-0").exists()
