import jax
import jaxtyping
import pytest


@pytest.fixture
def x64():
    """Compute in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def no_type_checks(monkeypatch):
    """Let a wrong name through to the library's own message, as it is outside the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
