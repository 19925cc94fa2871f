"""The torso interface and the registry of its kinds, with a torso of a user's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import drawn

from kilolayer.errors import ConfigurationError
from kilolayer.nn import (
    Architecture,
    ResidualArchitecture,
    Torso,
    TorsoSpec,
    project,
    register_torso,
    torso_names,
    torso_spec,
    torsos_in,
    unregister_torso,
)


class Linear(Torso):
    """A matrix, kept positive."""

    weight: jax.Array

    num_blocks = depth = 0

    def __call__(self, x):
        return x @ self.weight

    def observe_blocks(self, x, observe):
        raise NotImplementedError

    def block_parameters(self):
        return None

    def project(self):
        return Linear(jnp.abs(self.weight))


@dataclasses.dataclass(frozen=True)
class LinearArchitecture(Architecture):
    scale: float = 1.0

    def num_blocks(self, depth):
        return 0

    def build(self, in_size, out_size, *, depth, width, key):
        return Linear(self.scale * jax.random.normal(key, (in_size, out_size)))


@pytest.fixture
def linear():
    register_torso(TorsoSpec("linear", "a matrix", LinearArchitecture))
    yield
    unregister_torso("linear")


def test_a_user_registers_a_torso(linear):
    assert "linear" in torso_names()
    network = torso_spec("linear").settings(scale=2.0).build(5, 3, depth=4, width=8, key=jax.random.key(0))
    assert network(jnp.ones((2, 5))).shape == (2, 3)
    with pytest.raises(ConfigurationError, match=r"^a torso named 'linear' is registered already$"):
        register_torso(TorsoSpec("linear", "another", LinearArchitecture))


def test_a_name_is_free_again_when_it_is_unregistered(linear):
    unregister_torso("linear")
    assert "linear" not in torso_names()
    register_torso(TorsoSpec("linear", "another", LinearArchitecture))
    assert torso_spec("linear").summary == "another"


def test_an_unknown_torso_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match=r"torso='transfomer' is unknown; .*transformer") as error:
        torso_spec("transfomer")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["residual_mlp", "hyperspherical", "transformer"])
def test_registered_torsos_have_settings_with_defaults_and_a_summary(name):
    spec = torso_spec(name)
    assert spec.name == name
    assert spec.settings().build(5, 3, depth=4, width=8, key=jax.random.key(0)).num_blocks >= 1
    assert spec.summary
    assert "\n" not in spec.summary
    assert torso_spec("residual_mlp").settings is ResidualArchitecture


def test_projection_reaches_every_torso_of_a_tree_and_nothing_else():
    negative, residual = Linear(-jnp.ones((2, 2))), drawn("residual_mlp")
    tree = {"a": (negative, -jnp.ones(2)), "b": residual, "c": None}
    projected = project(tree)
    np.testing.assert_array_equal(projected["a"][0].weight, np.ones((2, 2)))
    np.testing.assert_array_equal(projected["a"][1], -np.ones(2))
    assert projected["b"] is residual
    assert list(torsos_in(tree)) == [negative, residual]


def test_what_a_torso_does_not_offer_is_refused_in_one_line():
    network = Linear(jnp.ones((2, 2)))
    with pytest.raises(ConfigurationError, match=r"^Linear cannot grow; leave grow out, or choose another torso$"):
        network.graft(network)
    with pytest.raises(ConfigurationError, match=r"^Linear has no int8 form; choose precision='float32'$"):
        network.quantize()
    with pytest.raises(ConfigurationError, match=r"^networks of LinearArchitecture cannot grow; leave grow out"):
        LinearArchitecture().check_growable()
    settings = LinearArchitecture()
    assert settings.resolve(batch_size=1, depth=4, width=8) is settings
    assert settings.growing_to(8) is settings
