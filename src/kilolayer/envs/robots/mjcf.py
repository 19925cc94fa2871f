"""Reading robot models from MJCF files."""

from pathlib import Path

import mujoco

from kilolayer.errors import ConfigurationError

FOLDER = Path(__file__).parent
"""Folder with the models that the library includes."""


def model_file(name: str) -> str:
    """Return the path of a model that the library includes, such as `ant`."""
    return str(FOLDER / f"{name}.xml")


def load_mjcf(path: Path) -> mujoco.MjSpec:
    """Read a model.

    Args:
        path: an MJCF file.

    Returns:
        The model as MuJoCo's editable specification.

    Raises:
        ConfigurationError: if the file is missing or is not valid MJCF.
    """
    if not path.is_file():
        raise ConfigurationError(f"model file {str(path)!r} is missing")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except (ValueError, mujoco.FatalError) as error:
        raise ConfigurationError(f"model file {str(path)!r} cannot be read: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """Return the text of an error on one line."""
    return " ".join(str(error).split())
