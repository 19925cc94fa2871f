"""Reading robot models from MJCF files."""

from importlib.util import find_spec
from pathlib import Path

import mujoco

from kilolayer.errors import ConfigurationError

FOLDER = Path(__file__).parent
"""Folder with the models that the library includes."""


def model_file(name: str) -> str:
    """Return the path of a model that the library includes, such as `ant`."""
    return str(FOLDER / f"{name}.xml")


def installed_file(package: str, path: str, *, pip: str = "") -> str:
    """Return a file of an installed package, without importing the package: a model that others wrote.

    Args:
        package: name of the package, as it is imported.
        path: of the file inside of it.
        pip: what to install; by default the package's name with dashes.

    Raises:
        ConfigurationError: if the package is not installed, or has no such file.
    """
    found = find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        wanted = pip or package.replace("_", "-")
        raise ConfigurationError(f"package {package!r}, whose model this is, is not installed: pip install {wanted}")
    file = Path(folders[0]) / path
    if not file.is_file():
        raise ConfigurationError(f"package {package!r} has no file {path!r}; another version may have it")
    return str(file)


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
