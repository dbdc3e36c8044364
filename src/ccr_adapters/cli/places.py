"""Where a command runs and writes: refused before hours of work, and what the machine refuses later told in a line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ccr_adapters.errors import ConfigError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PERMISSION = "Choose another place, or change its permissions."
_PATH = "Check the path: a part of it is missing, or is a file where a folder is expected, or a folder for a file."
_REMEDIES = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.ENOENT: _PATH,
    errno.ENOTDIR: _PATH,
    errno.EISDIR: _PATH,
    errno.EEXIST: _PATH,
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOSPC: "Make room on the disk, or choose another place.",
    errno.EDQUOT: "Make room on the disk, or choose another place.",
}


def refusal(error: OSError) -> str | None:
    """What the machine says of a file, and what to do; `None` for an error that is none of the user's."""
    remedy = _REMEDIES.get(error.errno or 0)
    # a full disk is told in the middle of writing, where no name is at hand
    if remedy is None or (error.filename is None and error.errno not in _FULL):
        return None
    where = "" if error.filename is None else f"'{error.filename}': "
    return f"{where}{error.strerror}. {remedy}"


def check_folder(folder: Path, name: str = "--output") -> None:
    """Refuse a folder that cannot be made, or not be written to.

    Args:
        folder: The folder; it need not be there.
        name: How the user gave it.

    Raises:
        ConfigError: Naming the file or the folder that is in the way.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ConfigError(f"`{name} {folder}`: '{place}' is a file; expected a folder. Name another one.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"`{name} {folder}`: nothing can be written into '{place}'. {_PERMISSION}")


def check_device(device: str | None) -> None:
    """Refuse a device that torch does not know, or that this machine does not have.

    Args:
        device: As the user gave it; `None` for the default.

    Raises:
        ConfigError: Naming those there are.
    """
    if device is None:
        return
    import torch

    from ccr_adapters.processing.devices import default_device

    try:
        # also finds those that have a name and hold nothing, as "meta"
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        found = default_device().type
        there = "cpu" if found == "cpu" else f"cpu and {found}"
        raise ConfigError(
            f"`--device {device}` is not here; this machine has {there}. Leave it out for the best."
        ) from error
