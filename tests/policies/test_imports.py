"""What is imported, and that loading a policy changes nothing in its process."""

import pytest
from policy_cases import case_of, run_python

import kilolayer

HEAVY = ("jax", "numpy", "mujoco", "brax", "orbax", "optax", "equinox", "matplotlib", "pydantic", "tyro", "rich")

LOADED = f"""
found = sorted({{name.split(".")[0] for name in sys.modules}} & set({HEAVY!r}))
assert not found, found
"""


@pytest.mark.parametrize(
    "code",
    [
        "import sys, kilolayer",
        "import sys, kilolayer; dir(kilolayer); kilolayer.__version__; kilolayer.RunError",
        "import sys; from kilolayer.cli.main import main; assert main(['--help']) == 0",
        "import sys; from kilolayer.cli.main import main; assert main(['--version']) == 0",
        "import sys; from kilolayer.cli.main import main; assert main(['trian']) == 2",
    ],
)
def test_importing_the_library_and_its_help_import_nothing_heavy(code):
    run_python(code + LOADED)


def test_public_names_and_subpackages_are_imported_on_first_use():
    for name in [*kilolayer.__all__, *kilolayer._ROOMS]:
        assert getattr(kilolayer, name) is not None
    assert {*kilolayer.__all__, *kilolayer._ROOMS, "__version__"} == set(dir(kilolayer))
    run_python("import kilolayer; assert kilolayer.envs.registry.names()")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kilolayer.nothing  # noqa: B018


STATE = """
import logging, os, signal, sys, threading, warnings
import equinox, jax, numpy, optax, pydantic, safetensors.numpy

def state():
    loggers = [logging.root, *(logging.getLogger(name) for name in sorted(logging.root.manager.loggerDict))]
    return {
        "loggers": {each.name: (each.level, list(each.handlers), list(each.filters)) for each in loggers},
        "disabled": logging.root.manager.disable,
        "warnings": list(warnings.filters),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "environment": dict(os.environ),
        "jax": dict(jax.config.values),
        "path": (list(sys.path), list(sys.meta_path), os.getcwd()),
    }

jax.devices()
before = state()
import kilolayer
policy = kilolayer.load(sys.argv[1])
policy([0.0] * policy.observation_size, [0.0] * policy.goal_size)
policy.compile()
after = state()
for name, value in before.items():
    if name == "loggers":  # new loggers may be there, as they are made
        after[name] = {each: after[name][each] for each in value}
    assert after[name] == value, (name, value, after[name])
"""


def test_loading_changes_nothing_in_the_process(tmp_path):
    run_python(STATE, case_of("crl")[2].save(tmp_path / "policy"))
