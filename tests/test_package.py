"""The package: one version, a page for an index that has no files beside it, no data in the source distribution."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

import kilolayer
from kilolayer.cli.main import main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{kilolayer.__version__}\n"
    assert "version" in PROJECT["project"]["dynamic"]
    assert (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text().count(f'"{kilolayer.__version__}"') == 1
    cited = re.search(r"(?m)^version: (.*)$", (ROOT / "CITATION.cff").read_text())
    assert cited
    assert cited[1] == kilolayer.__version__
    newest = re.search(r"(?m)^## .*?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text())
    assert newest
    assert newest[1] == kilolayer.__version__


def test_the_page_of_an_index_has_no_files_beside_it():
    readme = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((ROOT / fragment["path"]).read_text() for fragment in readme["fragments"])
    assert re.search(r"!\[[^]]*\]\((?!https:)", text)
    for rule in readme["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert text.startswith("# kilolayer\n")
    assert "<!--" not in text
    assert not re.search(r"\]\((?!https:)", text)
    assert "\n\n\n" not in text


def test_no_measured_data_in_the_source_distribution():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in ("results", "docs", "tests", "runs"):
        assert not any(fnmatch.fnmatch(f"/{name}", pattern) for pattern in included)


IMPORTED = {"pyyaml": "yaml"}
"""Packages that are imported by another name."""

OTHERS = {"jax", "mujoco-mjx", "triton", "gymnasium"}
"""Packages that stand beside another one of an extra, or in several."""


@pytest.mark.parametrize("extra", sorted(set(PROJECT["project"]["optional-dependencies"]) - {"dev", "docs"}))
def test_every_extra_has_code_that_needs_it(extra):
    source = "\n".join(path.read_text() for path in Path(kilolayer.__file__).parent.rglob("*.py"))
    for requirement in PROJECT["project"]["optional-dependencies"][extra]:
        name = re.split(r"[\[<>=; ]", requirement)[0]
        assert name in OTHERS or re.search(rf"\b{IMPORTED.get(name, name).replace('-', '_')}\b", source), name
