"""Groups of seeds: how seeds are written, and what a directory of several seeds holds."""

import pytest

import kilolayer as kl
from kilolayer.runs import SeedGroup, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0..3", (0, 1, 2, 3)), ("5", (5,)), ("7..7", (7,)), ("0,3,5", (0, 3, 5)), (" 1 .. 2, 9", (1, 2, 9))],
)
def test_seeds_are_read(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a seed"),
        ("a", "'a' is not a seed; write such as 0..7 or 0,3,5"),
        ("-1", "'-1' is not a seed"),
        ("1.5", "'1.5' is not a seed"),
        ("0,,1", "'' is not a seed"),
        ("3..1", "runs backwards; write 1..3"),
        ("0,1,0", "0 appears twice"),
        ("0..3,2", "2 appears twice"),
        ("0..99999999999", "100000000000 seeds are too many; at most 1024"),
        ("0,4294967296", "4294967296 must be at most 4294967295"),
        ("99999999999999999999", "is not a seed"),
    ],
)
def test_invalid_seeds_are_one_line(text, words):
    with pytest.raises(kl.ConfigurationError) as error:
        parse_seeds(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a list of seeds"),
        ('{"format": 2, "seeds": [0], "mode": "vmap"}', "newer kilolayer"),
        ('{"format": 1, "seeds": ["../0"], "mode": "vmap"}', "is not a list of seeds"),
        ('{"format": 1, "seeds": [0], "mode": "other"}', "is not a list of seeds"),
        ('{"format": 1, "seeds": [0, 0], "mode": "vmap"}', "0 appears twice"),
    ],
)
def test_a_damaged_group_is_one_line(tmp_path, text, words):
    (tmp_path / "seeds.json").write_text(text)
    with pytest.raises(kl.KilolayerError, match=words):
        SeedGroup.open(tmp_path)
