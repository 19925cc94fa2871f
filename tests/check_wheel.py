"""Install a wheel in a clean environment and use it as a stranger would.

`python tests/check_wheel.py dist constraints.txt`. Nothing of the repository is in reach.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

DATA = (
    *("kilolayer/py.typed", "kilolayer/envs/coverage.csv", "kilolayer/envs/robots/ant.xml"),
    *(
        "kilolayer/render/viewer/page.html",
        "kilolayer/render/viewer/player.js",
        "kilolayer/render/play/live.js",
        "kilolayer/studies/paper/figure_1.csv",
    ),
)
"""Files beside the code, one of each kind."""

SMALL = (
    *("--width=16", "--batch-size=16", "--num-envs=4", "--episode-length=20", "--unroll-length=10"),
    *("--gradient-steps-per-unroll=2", "--replay-capacity=60", "--min-replay=20", "--steps=400"),
    *("--num-evals=2", "--num-eval-envs=4", "--quiet"),
)
"""Settings of a run of seconds."""

COMMANDS = (
    ("--help",),
    ("envs",),
    ("train", "point_u_maze", "--run-dir=runs/short", *SMALL),
    ("report", "runs/short"),
    ("export", "runs/short", "--format=jax"),
)


def main(folder: Path, constraints: Path) -> None:
    """Check the wheel and the source distribution in a folder."""
    (wheel,) = folder.glob("*.whl")
    (source,) = folder.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert set(DATA) <= set(names), set(DATA) - set(names)
    assert all(name.startswith("kilolayer") for name in names), names
    with tarfile.open(source) as archive:
        members = {"/".join(name.split("/")[1:2]) for name in archive.getnames()}
    assert not members & {"results", "docs", "tests", "build"}, members
    print(f"wheel {wheel.stat().st_size >> 10} KiB, source {source.stat().st_size >> 10} KiB")
    with tempfile.TemporaryDirectory() as place:
        use(wheel, constraints, Path(place))


def use(wheel: Path, constraints: Path, place: Path) -> None:
    """Install a wheel in a new environment, and run its command in an empty folder."""
    began = time.monotonic()
    venv.create(place / "env", with_pip=True)
    python = place / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--constraint", constraints, wheel], check=True)
    print(f"installed in {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    work = place / "work"
    work.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KILOLAYER", "JAX"))}
    # Programs this small take far longer to compile than to run.
    clean |= {"KILOLAYER_CACHE_DIR": str(place / "cache"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    for words in COMMANDS:
        subprocess.run(
            [python.with_name("kilolayer"), *words], check=True, cwd=work, env=clean, stdout=subprocess.DEVNULL
        )
    where = [python, "-c", "import kilolayer; print(kilolayer.__file__)"]
    found = subprocess.run(where, check=True, cwd=work, env=clean, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(place), found.stdout
    run = work / "runs" / "short"
    assert (run / "report.html").is_file()
    assert list((run / "figures").glob("*.png"))
    assert list((run / "export").glob("*/policy.json"))
    print(f"help, envs, training, report and export in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
