"""Checks every annotated shape and type of the numerical packages while the tests run."""

import jaxtyping

jaxtyping.install_import_hook(
    ["kilolayer.agents", "kilolayer.envs", "kilolayer.nn", "kilolayer.replay"], "beartype.beartype"
)
