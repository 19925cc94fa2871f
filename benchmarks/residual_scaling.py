"""What residual scaling does to very deep networks: norms and gradients by block over 240 gradient steps.

    python benchmarks/residual_scaling.py [--depths 64,256,1024] [--runs DIR] [--results DIR]

Trains actor and critic on the point U maze at each depth, with and without 1/sqrt(blocks) on every branch, and writes
what `--diagnostics` saw as data and as a picture. Runs that are in DIR already are not trained again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import kilolayer as kl
from kilolayer.report.style import new_figure, save, tidy

SCALINGS = {"none": "not scaled", "inverse_sqrt": "scaled"}
PANELS = {
    "phi/stream_norm": ("phi: length of the stream", (5.0, 1000.0)),
    "phi/residual_norm": ("phi: what a block adds", (0.2, 20.0)),
    "phi/gradient_norm": ("phi: length of the gradient", (1e-3, 3000.0)),
    "actor/gradient_norm": ("actor: length of the gradient", (1e-3, 3000.0)),
}
"""What is drawn, and on which scale; a gradient that is zero has no place on it."""
SETTINGS: dict[str, Any] = {
    "gradient_steps_per_unroll": 30,
    "total_env_steps": 76_800,
    "num_evals": 12,
    "num_eval_envs": 16,
    "checkpoints_to_keep": 1,
    "diagnostics": True,
}


def run(path: Path, depth: int, scaling: str) -> kl.RunDirectory:
    """Train, unless it was done."""
    directory = kl.RunDirectory(path)
    if len(directory.diagnostics()) < 9:
        kl.train("point_u_maze", depth=depth, architecture={"residual_scaling": scaling}, run_dir=path, **SETTINGS)
    return directory


def main() -> None:
    """Train what is missing, and write data and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--depths", default="64,256,1024")
    parser.add_argument("--runs", type=Path, default=Path("runs/residual_scaling"))
    parser.add_argument("--results", type=Path, default=Path("results/residual_scaling"))
    options = parser.parse_args()
    depths = [int(depth) for depth in options.depths.split(",")]
    options.results.mkdir(parents=True, exist_ok=True)
    figure = new_figure(11.0, 2.5 * 2 * len(depths))
    grid = figure.subplots(2 * len(depths), len(PANELS))
    for line, (depth, scaling) in zip(grid, [(d, s) for d in depths for s in SCALINGS], strict=True):
        directory = run(options.runs / f"{depth}-{scaling}", depth, scaling)
        rows = directory.diagnostics()
        losses = [
            {"gradient_steps": row["gradient_steps"], "critic_loss": row.get("train/critic_loss")}
            for row in directory.metrics()
        ]
        data = {"config": directory.config().to_dict(), "system": json.loads(directory.system_file.read_text())}
        data |= {"losses": losses, "diagnostics": rows}
        (options.results / f"depth-{depth}-{scaling}.json").write_text(json.dumps(_rounded(data)) + "\n")
        colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(rows)))
        for axes, (name, (title, limits)) in zip(line, PANELS.items(), strict=True):
            for row, color in zip(rows, colors, strict=True):
                axes.plot(np.arange(1, len(row[name]) + 1), row[name], color=color, linewidth=1.0)
            axes.set_yscale("log")
            axes.set_ylim(limits)
            tidy(axes, f"depth {depth}, {SCALINGS[scaling]}\n{title}", "block")
    save(figure, options.results / "norms.png")


def _rounded(value: Any) -> Any:
    """Keep four digits: more is noise, and fills the repository."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
