"""Rendering: scenes, cameras, films and the 3-D page of a run's episodes."""

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
