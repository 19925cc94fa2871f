"""An interactive page of a scene in 3-D: one file that needs no install and no network."""

from kilolayer.render.viewer.write import write_page

__all__ = ["write_page"]
