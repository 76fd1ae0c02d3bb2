"""Optional packages, imported where they are used and named when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from torchlpr.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, extra: str = "plots") -> ModuleType:
    """Import an optional module where it is used.

    Args:
        module: full name, as ``matplotlib.figure``.
        extra: the extra of torchlpr that installs its package.

    Returns:
        The module.

    Raises:
        MissingExtraError: if its package is not installed.
        ModuleNotFoundError: if the package is installed but lacks one that it needs itself.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(package, extra) from error
    return importlib.import_module(module)
