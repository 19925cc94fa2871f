"""The plan of the house: a room imports from rooms below it, never from above; no circles; no flags below `cli`."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kilolayer

SOURCE = Path(kilolayer.__file__).parent
FILES = {
    "checkpoint_files": 0,
    "compilation_cache": 0,
    "device_errors": 0,
    "errors": 0,
    "files": 0,
    "hosts": 0,
    "kernel_choices": 0,
    "machine": 0,
    "memory": 0,
    "named_arrays": 0,
    "process_setup": 0,
    "progress": 0,
    "settings": 0,
    "shards": 0,
    "system": 0,
    "user_code": 0,
    "version": 0,
}
ROOMS = {
    "nn": 1,
    "objectives": 2,
    "data": 2,
    "envs": 2,
    "agents": 3,
    "policies": 4,
    "runs": 4,
    "training": 5,
    "render": 6,
    "bench": 6,
    "report": 7,
    "studies": 8,
    "cli": 9,
}
FLOORS = FILES | ROOMS


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "package"


def imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {module for module in named | plain if module.split(".")[0] == "kilolayer"}


def test_every_room_is_in_the_plan():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ROOMS)


def test_imports_point_down():
    seen = 0
    for file in SOURCE.rglob("*.py"):
        relative = file.relative_to(SOURCE)
        if len(relative.parts) == 1:
            continue
        room = relative.parts[0]
        for module in imports(file):
            target = room_of(module)
            seen += 1
            assert target == room or FLOORS.get(target, 99) < FLOORS[room], f"{relative} imports {module}"
    assert seen > 50


def test_no_room_names_a_task():
    """Tasks are an open set: other rooms ask the registry, or the task itself."""
    for file in SOURCE.rglob("*.py"):
        if file.relative_to(SOURCE).parts[0] != "envs":
            assert not [module for module in imports(file) if module.startswith("kilolayer.envs.tasks")], file


def test_files_stay_small():
    for file in SOURCE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file


# Circles


def module_name(file: Path) -> str:
    parts = ("kilolayer", *file.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph(room: str) -> dict[str, set[str]]:
    """Which modules of a room each module imports, anywhere in the file: also in functions and under TYPE_CHECKING.

    `from package import name` counts as an import of the module `name`, if there is one, and of the package otherwise.
    """
    files = {module_name(file): file for file in (SOURCE / room).rglob("*.py")}
    edges: dict[str, set[str]] = {}
    for module, file in files.items():
        targets = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    targets.add(inner if inner in files else node.module)
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}: a relative import"
        edges[module] = (targets & set(files)) - {module}
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def folders(room: str, edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph with each folder of the room as one node. The room's `__init__` is left out."""

    def node(module: str) -> str:
        return ".".join(module.split(".")[:3])

    merged: dict[str, set[str]] = {}
    for module, targets in edges.items():
        if module != f"kilolayer.{room}":
            merged.setdefault(node(module), set()).update(node(target) for target in targets)
    return {name: targets - {name} for name, targets in merged.items()}


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_of_files_inside_a_room(room):
    edges = graph(room)
    assert edges
    assert circle(edges) == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_of_folders_inside_a_room(room):
    assert circle(folders(room, graph(room))) == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


# Flags

FLAG = re.compile(r"(^|[\s'\"`(])--[a-z]")


def spells_a_flag(source: str) -> bool:
    """Whether a string of a source file, docstrings included, contains a flag such as `--x`."""
    strings = (
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return any(FLAG.search(text) for text in strings)


def test_no_flags_below_the_command_line():
    found = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if file.relative_to(SOURCE).parts[0] != "cli" and spells_a_flag(file.read_text())
    }
    assert found == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 'take --grow'", True),
        ("f'{name} or --grow {x}'", True),
        ('def f():\n    """`--grow`."""', True),
        ("x = 'two -- dashes, a --- rule, a--b'", False),
        ("# --grow", False),
    ],
)
def test_flags_are_found_in_strings(source, expected):
    assert spells_a_flag(source) == expected
