"""Records what rliable makes of some scores, for `test_statistics.py` to compare with.

Run it where rliable is installed; it does not work with the newest pandas, so it is no dependency of the tests:

    python -m venv /tmp/rliable && /tmp/rliable/bin/pip install rliable 'pandas<3'
    /tmp/rliable/bin/python tests/studies/record_rliable.py
"""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

RECORD = Path(__file__).with_name("rliable.json")
SHAPES = ((3, 1), (4, 1), (5, 1), (5, 3), (10, 2), (7, 26))
"""Seeds and tasks."""
RESAMPLES = 50_000


def main() -> None:
    random = np.random.default_rng(0)
    records = []
    for shape in SHAPES:
        scores = random.beta(0.6, 0.9, shape).round(4)
        points, intervals = library.get_interval_estimates(
            {"scores": scores},
            lambda scores: np.array([metrics.aggregate_iqm(scores), metrics.aggregate_mean(scores)]),
            reps=RESAMPLES,
            random_state=np.random.RandomState(0),
        )
        records.append(
            {
                "scores": scores.tolist(),
                "iqm": points["scores"][0],
                "mean": points["scores"][1],
                "iqm_interval": intervals["scores"][:, 0].tolist(),
                "mean_interval": intervals["scores"][:, 1].tolist(),
            }
        )
    versions = {name: importlib.metadata.version(name) for name in ("rliable", "arch", "numpy", "scipy")}
    RECORD.write_text(json.dumps({"versions": versions, "resamples": RESAMPLES, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
