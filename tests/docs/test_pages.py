"""The pages of the site: every command line parses, every block of Python is one, every public name is described."""

import ast
import importlib
import pkgutil
import re
import shlex
import shutil
from pathlib import Path

import pytest

import kilolayer
from kilolayer.cli import options
from kilolayer.cli.commands import COMMANDS, module_of
from kilolayer.cli.main import main
from kilolayer.cli.train_options import parse_train
from kilolayer.runs import RunDirectory
from kilolayer.user_code import import_code
from own_process import own_process
from small_runs import SMALL, small_config

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCED.findall(page.read_text()) if language in languages]


def command_lines() -> dict[str, Path]:
    """Every `kilolayer ...` of the pages, with the first page that has it."""
    found: dict[str, Path] = {}
    for page in PAGES:
        for body in blocks(page, "sh", "bash"):
            for line in body.replace("\\\n", " ").splitlines():
                if line.startswith("kilolayer "):
                    words = shlex.split(line.partition(" > ")[0], comments=True)
                    found.setdefault(shlex.join(words), page)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with what the pages speak of: examples, a robot, a maze and a run."""
    path = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "examples", path / "examples")
    robot = blocks(DOCS / "start" / "own_robot.md", "python")[0]
    (path / "my_robot.py").write_text(robot)
    for name in ("two_links", "my_arm"):
        (path / f"{name}.py").write_text(robot.replace('"my_robot"', f'"{name}"'))
    (path / "my_envs.py").touch()
    maze = next(body for body in blocks(DOCS / "start" / "first_run.md", "text") if "#R" in body)
    for name in ("my_maze.txt", "maze.txt"):
        (path / name).write_text(maze)
    RunDirectory.create(path / "run", small_config())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


class Parsed(Exception):  # noqa: N818
    """The parser took a command line; nothing is to run."""


def parse(words: list[str], monkeypatch) -> None:
    """Parse a command line by the command's own parser, and stop before it runs."""
    words = list(words)
    while "--import" in words:
        at = words.index("--import")
        file = words[at + 1]
        # Robots of other packages, which need not be there, have tests of their own.
        if not file.startswith("examples/robots/"):
            import_code(file)
        del words[at : at + 2]
    if "ogbench" in words:  # the preset of those environments
        del words[words.index("ogbench") - 1 : words.index("ogbench") + 1]
    words = [re.sub(r"^(gym|ogbench):.*", "reacher", word) for word in words]  # packages that need not be there
    command, *rest = words
    if command.startswith("--") or command == "help":
        assert main(words) == 0
        return
    assert command in COMMANDS
    if command == "train" and not options.wants_help(rest):
        # A run that a page made is stood for by a small one.
        of_a_run = ("--resume", "--init-from")
        rest = ["run" if before in of_a_run else word for before, word in zip(["", *rest], rest, strict=False)]
        rest = [re.sub(r"^runs/.*/config.json$", "run/config.json", word) for word in rest]
        parse_train(rest)
        return
    parser = options.tyro.cli

    def stop(*given, **named):
        raise Parsed(parser(*given, **named))

    monkeypatch.setattr(options.tyro, "cli", stop)
    try:
        with pytest.raises((Parsed, SystemExit)) as ended:
            importlib.import_module(module_of(command)).run(rest)
        assert ended.type is Parsed or not ended.value.code
    finally:
        monkeypatch.setattr(options.tyro, "cli", parser)


def test_every_command_line_of_the_pages_parses(place, monkeypatch):
    lines = command_lines()
    assert len(lines) > 100
    wrong = []
    for line, page in lines.items():
        try:
            with own_process():
                parse(shlex.split(line)[1:], monkeypatch)
        except Exception as error:
            wrong.append(f"{page.relative_to(ROOT)}: {line}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def test_a_flag_that_is_not_there_would_be_found(place, monkeypatch):
    with pytest.raises(kilolayer.ConfigurationError, match="--dept"):
        parse(["train", "point_u_maze", "--dept", "4"], monkeypatch)
    with pytest.raises(kilolayer.ConfigurationError, match="--chekpoint"):
        parse(["report", "runs/first", "--chekpoint", "best"], monkeypatch)


MADE_HERE = {"energies", "crane", "chain", "numpy", "onnxruntime"}
"""Modules that a block imports and that need not be there when the fast tests run."""


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_blocks_of_python_compile_and_import_what_there_is(page):
    for body in blocks(page, "python"):
        try:
            tree = ast.parse(body)
        except SyntaxError:
            assert "..." in body, body  # an excerpt says so
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module not in MADE_HERE:
                found = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(found, alias.name), f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name not in MADE_HERE:
                        importlib.import_module(alias.name)


NEW = [
    page
    for folder in ("start", "concepts", "reference")
    for page in sorted((DOCS / folder).glob("*.md"))
    if blocks(page, "python")
]


@pytest.mark.slow
@pytest.mark.parametrize("page", NEW, ids=lambda page: page.stem)
def test_blocks_of_python_run(page, tmp_path, monkeypatch):
    """From the first to the last, in a directory with a small run; what they train is small, too."""
    monkeypatch.chdir(tmp_path)
    train = kilolayer.train
    monkeypatch.setattr(kilolayer, "train", lambda *given, **named: train(*given, progress=False, **(named | SMALL)))
    kilolayer.train("point_u_maze", run_dir="runs/first")
    with own_process():
        for body in blocks(page, "python"):
            exec(compile(body, str(page), "exec"), {"__name__": "page"})


# The reference


def packages() -> list[str]:
    """All packages that hand on public names."""
    found = ["kilolayer"]
    for package in pkgutil.walk_packages(kilolayer.__path__, "kilolayer."):
        if package.ispkg and getattr(importlib.import_module(package.name), "__all__", None):
            found.append(package.name)
    return found


def test_every_package_with_public_names_is_in_the_reference():
    described = set(
        re.findall(
            r"automodule:: (\S+)", "".join(page.read_text() for page in (DOCS / "reference" / "api").glob("*.md"))
        )
    )
    handed_on = {"kilolayer.render.viewer"}  # its name is that of kilolayer.render
    assert set(packages()) - handed_on <= described


def test_no_public_name_is_left_out_but_what_stands_elsewhere():
    for page in (DOCS / "reference" / "api").glob("*.md"):
        text = page.read_text()
        for package, left_out in re.findall(r"automodule:: (\S+)\n   :members:\n   :exclude-members: (.*)\n", text):
            for name in left_out.split(", "):
                homes = [other for other in packages() if other != package]
                found = getattr(importlib.import_module(package), name)
                assert any(getattr(importlib.import_module(home), name, None) is found for home in homes), name


def test_public_functions_and_classes_say_what_they_do():
    missing = [
        f"{package}.{name}"
        for package in packages()
        for name in importlib.import_module(package).__all__
        if callable(found := getattr(importlib.import_module(package), name))
        and isinstance(found, type | type(packages))
        and not found.__doc__
    ]
    assert missing == []
