"""Damaged files of rows: the reader names file and line, or loses only a last line that has no end."""

import json

from invariants import check_call, generators

from kilolayer.errors import RunError
from kilolayer.runs import RunDirectory
from kilolayer.runs.sinks import DiagnosticsFile, FileSink
from small_runs import small_config

ROWS = [
    {"env_steps": 40 * number, "gradient_steps": 3 * number, "eval/success_any": 0.25 * number, "perf/seconds": 1.5}
    for number in range(6)
]
NOISE = [
    *(
        b"",
        b"\x00",
        b"\xff",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"null",
        b"1e999",
        b"NaN",
        b"-",
        b"\r",
        b"\n",
        b"\n\n",
        b"{}\n",
    ),
    *(b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"true\n", b'"x"\n', b"[1]\n", b'{"env_steps":-1}\n', b"\xef\xbb\xbf"),
]


def damage(number, text: bytes) -> bytes:
    """Cut, change, repeat, move or insert bytes or lines."""
    for _ in range(number.randint(1, 3)):
        place, other = number.randrange(len(text) + 1), number.randrange(len(text) + 1)
        low, high = min(place, other), max(place, other)
        match number.randrange(8):
            case 0:
                text = text[:place]
            case 1:
                text = text[:place] + number.choice(NOISE) + text[place:]
            case 2:
                text = text[:low] + text[high:]
            case 3:
                text = text[:place] + bytes([number.randrange(256)]) + text[place + 1 :]
            case 4:
                text = text[:low] + text[low:high] * 2 + text[high:]
            case 5:
                text = text.replace(b"\n", b"\r\n")
            case 6:
                lines = text.split(b"\n")
                number.shuffle(lines)
                text = b"\n".join(lines)
            case 7:
                text = text + number.choice(NOISE)
    return text


def test_damaged_rows_are_named_and_never_lost(tmp_path):
    run = RunDirectory.create(tmp_path / "run", small_config())
    whole = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    refused = 0
    for case, number in generators("metrics"):
        damaged = damage(number, whole)
        for file, read, reopen in (
            (run.metrics_file, run.metrics, lambda: FileSink(run, 10**9)),
            (run.diagnostics_file, run.diagnostics, lambda: DiagnosticsFile(run, 10**9)),
        ):
            for old in run.path.glob("metrics*"):
                old.unlink()
            file.write_bytes(damaged)
            message = check_call(read, RunError, case=case)
            refused += bool(message)
            assert bool(check_call(reopen, RunError, case=case)) == bool(message)
            if message:
                assert str(file) in message, case
                assert ", line " in message, case
                assert file.read_bytes() == damaged, case
            else:  # what was a row is still one, and what was cut is kept aside
                kept = [json.loads(line) for line in file.read_bytes().splitlines()]
                cut = file.with_name(f"{file.name}.cut")
                assert len(kept) == damaged.count(b"\n"), case
                assert cut.exists() == bool(damaged.rpartition(b"\n")[2]), case
                cut.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
    assert refused > 0
