"""The files of the live page: markup, style and scripts, with the viewer's own that draw the scene."""

import base64
import html
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float

from kilolayer.render.viewer.write import filled, script_json, viewer_file

NOTHING = 255
"""Where the floor shows no number; others are shown as 0 to 254."""


def page_files(about: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of the page by their paths; that of the page itself is empty.

    Args:
        about: see `Session.about`.
    """
    title = html.escape(about["scene"]["name"])
    files = {
        "": filled(_own_file("page.html"), title=title, about=script_json(about)),
        "viewer.css": viewer_file("style.css"),
        "live.css": _own_file("live.css"),
        "three.js": viewer_file("three/three.min.js"),
        "world.js": viewer_file("world.js"),
        "live.js": _own_file("live.js"),
    }
    return {path: text.encode() for path, text in files.items()}


def floor_json(numbers: Float[np.ndarray, "rows columns"]) -> bytes:
    """Return numbers of a floor as JSON: rows, columns, the smallest and the largest, and a byte for each pixel."""
    known = np.isfinite(numbers)
    low, high = (float(numbers[known].min()), float(numbers[known].max())) if known.any() else (0.0, 0.0)
    steps = np.full(numbers.shape, NOTHING, np.uint8)
    steps[known] = np.rint((numbers[known] - low) / max(high - low, 1e-12) * (NOTHING - 1)).astype(np.uint8)
    rows, columns = numbers.shape
    pixels = base64.b64encode(steps.tobytes()).decode()
    return json.dumps({"rows": rows, "columns": columns, "low": low, "high": high, "pixels": pixels}).encode()


def _own_file(name: str) -> str:
    return resources.files("kilolayer.render.play").joinpath(name).read_text(encoding="utf-8")
