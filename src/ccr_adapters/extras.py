"""Optional libraries, asked for where they are used, with the pip line in the message."""

from __future__ import annotations

import importlib
from types import ModuleType

from ccr_adapters.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional library or say how to get it.

    Args:
        module: Import name, for example ``"matplotlib"``.
        extra: The extra of this package that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: If the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module!r} is needed here and is not installed: pip install 'ccr-adapters[{extra}]'"
        ) from error
