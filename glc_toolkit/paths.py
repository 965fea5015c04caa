"""Where the shipped models lie: inside an installed package, or beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_zoo() -> Path:
    """The folder of the models that come with the package."""
    installed = _PACKAGE / "zoo_models"
    return installed if installed.is_dir() else _PACKAGE.parent / "zoo"
