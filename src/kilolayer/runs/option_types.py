"""Types of settings whose valid values come from a registry: the help text lists what is registered at that moment."""

from typing import Annotated

import tyro

from kilolayer.envs.engines import engine_names


def _engines(default: str) -> str:
    return f"({', '.join(engine_names())}; default: {default})"


_engine = tyro.conf.arg(metavar="ENGINE", help_behavior_hint=_engines)

EngineOption = Annotated[str, _engine]
"""The name of a registered engine, or `auto`."""
OptionalEngineOption = Annotated[str | None, _engine]
"""The same, or None."""
