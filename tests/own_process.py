"""Command lines that run in the process of the tests, and leave no more behind than a process of their own would."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilolayer.agents import agent_names, unregister_agent
from kilolayer.envs import names, registry
from kilolayer.nn import torso_names, unregister_torso
from kilolayer.runs import presets
from kilolayer.studies import STUDIES, unregister_study
from kilolayer.user_code import imported

REGISTRIES = (
    (names, registry.unregister),
    (agent_names, unregister_agent),
    (torso_names, unregister_torso),
    (STUDIES.keys, unregister_study),
)


@contextmanager
def own_process() -> Iterator[None]:
    """Forget which files of a user were imported, and what they registered."""
    known = [set(listed()) for listed, _ in REGISTRIES]
    modules, folders, found = set(sys.modules), list(sys.path), dict(presets._PRESETS)
    try:
        yield
    finally:
        for (listed, unregister), before in zip(REGISTRIES, known, strict=True):
            for name in set(listed()) - before:
                unregister(name)
        presets._PRESETS.clear()
        presets._PRESETS.update(found)
        sys.path[:] = folders
        of_users = {Path(file).parent for file in imported()}
        for name in set(sys.modules) - modules:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent in of_users:
                del sys.modules[name]
