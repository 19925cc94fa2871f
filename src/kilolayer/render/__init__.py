"""Rendering: films, stills and interactive 3-D pages of recorded episodes."""

from kilolayer.render.film import write_film, write_strip
from kilolayer.render.record import record
from kilolayer.render.scene import Scene
from kilolayer.render.viewer import write_page

__all__ = [
    "Scene",
    "record",
    "write_film",
    "write_page",
    "write_strip",
]
