"""A robot shown live: a page on this machine in which its goal can be dragged, and what it does changed."""

from kilolayer.render.play.actors import ACTIONS, Actions
from kilolayer.render.play.address import LOOPBACK, check_address, is_loopback
from kilolayer.render.play.controls import SPEEDS
from kilolayer.render.play.headless import Played, play_headless
from kilolayer.render.play.server import PORT, PlayServer
from kilolayer.render.play.session import Session

__all__ = [
    "ACTIONS",
    "LOOPBACK",
    "PORT",
    "SPEEDS",
    "Actions",
    "PlayServer",
    "Played",
    "Session",
    "check_address",
    "is_loopback",
    "play_headless",
]
