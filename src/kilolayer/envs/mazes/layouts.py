"""The paper's mazes as text; `kilolayer.envs.mazes.maze` defines the format and the positions of cells."""

LAYOUTS: dict[str, str] = {
    "u": """
#####
#RGG#
###G#
#GGG#
#####
""",
    "u_eval": """
#####
#R..#
###.#
#GGG#
#####
""",
    "u2": """
######
#RGGG#
####G#
#GGGG#
######
""",
    "u2_eval": """
######
#R...#
####.#
#GGGG#
######
""",
    "u3": """
#######
#RGGGG#
#####G#
#GGGGG#
#######
""",
    "u3_eval": """
#######
#R....#
#####.#
#GGGGG#
#######
""",
    "u4": """
#####
#GGG#
#R#G#
###G#
#G#G#
#GGG#
#####
""",
    "u4_eval": """
#####
#...#
#R#.#
###.#
#G#.#
#GGG#
#####
""",
    "u5": """
########
#GGGGGG#
#R####G#
######G#
#G####G#
#GGGGGG#
########
""",
    "u5_eval": """
########
#......#
#R####.#
######.#
#G####G#
#GGGGGG#
########
""",
    "u6": """
#######
#GGGGG#
#R###G#
#####G#
#G###G#
#GGGGG#
#######
""",
    "u6_eval": """
#######
#.....#
#R###.#
#####.#
#G###G#
#GGGGG#
#######
""",
    "u7": """
######
#GGGG#
#R##G#
####G#
#G##G#
#GGGG#
######
""",
    "u7_eval": """
######
#....#
#R##.#
####.#
#G##G#
#GGGG#
######
""",
    "big": """
########
#RG##GG#
#GG#GGG#
##GGG###
#GG#GGG#
#G#GG#G#
#GGG#GG#
########
""",
    "big_eval": """
########
#R.##GG#
#..#..G#
##...###
#..#...#
#.#G.#G#
#.GG#GG#
########
""",
    "hardest": """
############
#RGGG#GGGGG#
#G##G#G#G#G#
#GGGGGG#GGG#
#G####G###G#
#GG#G#GGGGG#
##G#G#G#G###
#GG#GGG#GGG#
############
""",
}
"""`NAME_eval` has the walls of `NAME` and only far goals; there is none for `hardest`."""

_GOALS: dict[str, tuple[tuple[int, int], ...]] = {
    "u_single_eval": ((3, 1),),
    "u3_single_eval": ((3, 1),),
    "u5_single_eval": ((4, 1),),
    "u_eval_5f6f": ((3, 1), (3, 2)),
    "u_eval_1f2f3f": ((1, 2), (1, 3), (2, 3)),
    "u_eval_1f2f3f4f": ((1, 2), (1, 3), (2, 3), (3, 3)),
    "u_eval_1f2f3f4f5f": ((1, 2), (1, 3), (2, 3), (3, 3), (3, 2)),
    "big_eval_10": ((1, 5), (1, 6), (2, 5), (2, 6), (4, 6), (5, 3), (5, 6), (6, 2), (6, 3), (6, 6)),
}


def _with_goals(text: str, goals: tuple[tuple[int, int], ...]) -> str:
    """Return a layout with goals only in the given cells (row, column)."""
    rows = [list(row.replace("G", ".")) for row in text.strip().split("\n")]
    for row, column in goals:
        rows[row][column] = "G"
    return "\n" + "\n".join("".join(row) for row in rows) + "\n"


EVAL_LAYOUTS: dict[str, str] = {name: _with_goals(LAYOUTS[name.split("_")[0]], goals) for name, goals in _GOALS.items()}
"""Other goals for evaluation in the same walls. `big_eval_10`, for humanoids, has one goal more than `big_eval`."""
