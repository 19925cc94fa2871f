"""Maze texts: a maze that can be run, or one line."""

from pathlib import Path

from invariants import check_call, check_command, generators, nothing_ran

from kilolayer.cli.main import main
from kilolayer.envs import registry
from kilolayer.errors import KilolayerError

GOOD = ["#####", "#R.G#", "#...#", "#G.RB#", "######", "#RG#", "####", "#.#", "#"]
CELLS = "#" * 6 + "......RRGGB " + "\t\x00X*é鹿[{(\r"


def maze(number) -> str:
    match number.randrange(4):
        case 0:
            rows = [number.choice(GOOD) for _ in range(number.randint(0, 8))]
        case 1:
            width = number.randint(1, 12)
            inside = [
                "#" + "".join(number.choice(CELLS) for _ in range(width)) + "#" for _ in range(number.randint(0, 6))
            ]
            rows = ["#" * (width + 2), *inside, "#" * (width + 2)]
        case 2:
            size = number.choice([1, 3, 60, 400])
            rows = ["#" * size, *(["#" + "." * max(size - 2, 0) + "#"] * max(size - 2, 0)), "#" * size]
        case _:
            rows = [
                "".join(number.choice(CELLS) for _ in range(number.randint(0, 20))) for _ in range(number.randint(0, 9))
            ]
    return number.choice(["\n", "\n", "\r\n", "\n\n", ""]).join(rows) + number.choice(["", "\n", " \n"])


def test_a_maze_is_one_that_runs_or_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for case, number in generators("mazes"):
        text = maze(number)

        def use(text=text):
            environment = registry.make(registry.resolve(text), episode_length=10)
            assert environment.observation_size > 0

        check_call(use, KilolayerError, case=case)
        file = Path("maze.txt")
        file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        check_command(main, ["envs", "show", "maze.txt"], capsys, case=case)
        file.unlink()
    assert nothing_ran(tmp_path)
