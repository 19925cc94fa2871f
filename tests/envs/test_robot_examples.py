"""Tasks for models of installed packages: short, and they pass the check where the package is installed."""

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilolayer.cli.main import main
from kilolayer.envs import installed_file, make, names, registry
from kilolayer.envs.check import check
from kilolayer.errors import ConfigurationError
from kilolayer.user_code import import_code

FOLDER = Path(__file__).parents[2] / "examples" / "robots"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
LINES = 25


@pytest.mark.parametrize("name", FILES)
def test_tasks_are_short(name: str) -> None:
    classes = [node for node in ast.parse((FOLDER / f"{name}.py").read_text()).body if isinstance(node, ast.ClassDef)]
    assert classes
    for one in classes:
        assert one.end_lineno is not None
        assert one.end_lineno - one.lineno + 1 <= LINES, one.name


def test_a_file_of_an_installed_package_is_found_without_importing_it() -> None:
    assert Path(installed_file("jaxtyping", "__init__.py")).is_file()
    with pytest.raises(ConfigurationError, match=r"package 'jaxtyping' has no file 'robot\.xml'"):
        installed_file("jaxtyping", "robot.xml")
    with pytest.raises(
        ConfigurationError, match=r"package 'no_robots', whose model this is, is not installed: pip install no-robots$"
    ):
        installed_file("no_robots", "robot.xml")


def test_an_example_without_its_package_is_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr("kilolayer.envs.robots.mjcf.find_spec", lambda name: None)
    assert main(["--import", str(FOLDER / "fetch.py"), "envs", "check", "fetch_reach"]) == 2
    assert capsys.readouterr().err == (
        "kilolayer: error: package 'gymnasium_robotics', whose model this is, is not installed: "
        "pip install gymnasium-robotics\n"
    )


@pytest.fixture
def tasks(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The tasks that an example registers; skipped if its package is missing."""
    path = FOLDER / f"{request.param}.py"
    packages = set(re.findall(r'installed_file\(\s*"(\w+)"', path.read_text()))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    before, modules, folders = set(names()), set(sys.modules), list(sys.path)
    import_code(str(path))
    found = [name for name in names() if name not in before]
    yield found
    for name in found:
        registry.unregister(name)
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) == str(path):
            del sys.modules[name]
    sys.path[:] = folders


@pytest.mark.slow
@pytest.mark.parametrize("tasks", FILES, indirect=True)
def test_tasks_of_installed_packages_pass_the_check(tasks: list[str]) -> None:
    assert tasks
    for name in tasks:
        findings = list(check(make(name), num_envs=4, num_steps=20))
        assert not [finding for finding in findings if finding.verdict == "failed"], name
        assert findings[-1].name == "speed"
