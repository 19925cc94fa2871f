"""Trains for an hour and measures the memory that the process holds: `python soak.py CSV [SECONDS]`, on Linux.

A row every 30 s, and at the end by how much the second half of them differs. It fails if that is more than 2 %, or if
training ended by itself. `make soak` runs it, and then fifty loads and evaluations in one process.

Every save costs memory: TensorStore 0.1.86 never frees the texts that `KvStore.Spec.to_json` returns, and Orbax calls
it more than once for each array. So evaluations, each with a checkpoint, come as rarely as in a run of usual length.
"""

import csv
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from resident import resident_bytes

PAUSE = 30.0
LIMIT = 0.02
SMALL = {
    "width": 16,
    "depth": 4,
    "num-envs": 16,
    "batch-size": 32,
    "episode-length": 50,
    "replay-capacity": 1000,
}
SIZES = [f"--{name}={value}" for name, value in SMALL.items()]
STEPS = ["--total-env-steps=1000000000", "--num-evals=1000"]  # more than an hour, evaluated and saved on the way


def resident_mib(process: int) -> float:
    """Return the memory that a process holds, in MiB."""
    return resident_bytes(process) / 2**20


def spread(samples: Sequence[float]) -> float:
    """Return by how much the second half of some samples differs, as a fraction of its mean."""
    half = samples[len(samples) // 2 :]
    return (max(half) - min(half)) / (sum(half) / len(half))


def soak(file: Path, seconds: float) -> str:
    """Train for so long; write a row of seconds and MiB every 30 s, and return what was seen.

    Raises:
        SystemExit: If training ended by itself, or the memory of the second half differs by more than 2 %.
    """
    samples = []
    with tempfile.TemporaryDirectory() as folder, file.open("w", newline="") as rows:
        run, log = Path(folder) / "run", Path(folder) / "log"
        writer = csv.writer(rows)
        writer.writerow(["seconds", "resident_mib"])
        with log.open("w") as output:
            command = [sys.executable, "-m", "kilolayer", "train", "reacher", "--engine", "mujoco"]
            process = subprocess.Popen([*command, *SIZES, *STEPS, "--run-dir", str(run)], stdout=output, stderr=output)
            start = time.monotonic()
            try:
                while time.monotonic() - start < seconds and process.poll() is None:
                    time.sleep(min(PAUSE, seconds))
                    if process.poll() is None:
                        samples.append(resident_mib(process.pid))
                        writer.writerow([round(time.monotonic() - start), f"{samples[-1]:.1f}"])
                        rows.flush()
            finally:
                ended = process.poll()
                if ended is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        if ended is not None:
            raise SystemExit(f"training ended by itself with exit code {ended}: {log.read_text()[-2000:]}")
        evaluations = len((run / "metrics.jsonl").read_text().splitlines())
    found = f"{len(samples)} samples, {evaluations} evaluations; the second half differs by {spread(samples):.2%}"
    if spread(samples) > LIMIT:
        raise SystemExit(f"{found}, more than {LIMIT:.0%}")
    return found


if __name__ == "__main__":
    print(soak(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 3600.0))
