"""The plan of the house: a room imports from rooms below it, never from above."""

import ast
from pathlib import Path

import kilolayer

SOURCE = Path(kilolayer.__file__).parent
FILES = {"errors": 0, "compilation_cache": 0, "user_code": 0, "settings": 0, "checkpoint_files": 0}
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
            if target == "package":  # the version, in the command line alone
                assert room == "cli", f"{relative} imports the package"
                continue
            seen += 1
            assert target == room or FLOORS[target] < FLOORS[room], f"{relative} imports {module}"
    assert seen > 50


def test_files_stay_small():
    for file in SOURCE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
