"""What the bytes of a file of weights are for, read from its header alone."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccr_adapters.errors import AdapterError

PIECES = ("bottlenecks", "disentangler", "condition", "generator", "shared cores", "header")
"""What a DASD adapter's file is made of."""
LONGEST_HEADER = 100_000_000

# Maps of [`ccr_adapters.dasd.generator.CoreGenerator`]; what `generator_rank` is about comes first.
_GENERATOR = {
    "mixture.weight": "generator",
    "cores.weight": "generator",
    "cores.bias": "shared cores",
    "core": "shared cores",
    "condition.weight": "condition",
    "condition.bias": "condition",
}


@dataclass(frozen=True)
class Stored:
    """A tensor of a file.

    Args:
        shape: Its shape.
        size: Bytes.
    """

    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Generator:
    """The map from a caption's condition `z` to the cores of all blocks, as it is and as it could be.

    Args:
        rank: `generator_rank`; `None` for a full map.
        condition: Width of `z`, `c`.
        cores: Numbers of all cores, `n r r`.
        width: Bytes a number.
    """

    rank: int | None
    condition: int
    cores: int
    width: int

    def size(self, rank: int | None) -> int:
        """Bytes with a `generator_rank`: `c n r r` numbers, or `k (c + n r r)`."""
        full = self.condition * self.cores
        return self.width * (full if rank is None else rank * (self.condition + self.cores))


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, without reading any.

    Raises:
        AdapterError: If it is truncated or something else.
    """
    whole = path.stat().st_size
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > min(LONGEST_HEADER, whole - 8):
                raise ValueError(f"a header of {size} bytes in a file of {whole}")
            values = json.loads(file.read(size))
        found = {name: stored(**each) for name, each in values.items() if name != "__metadata__"}
        if sum(each.size for each in found.values()) != whole - 8 - size:
            raise ValueError("its tensors are not as long as its header says")
    except (struct.error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterError(
            f"'{path}' is truncated or no safetensors file ({error}). Download it again, or save the adapter again."
        ) from error
    return found


def stored(dtype: str, shape: Sequence[int], data_offsets: Sequence[int]) -> Stored:
    """A tensor as a header describes it.

    Raises:
        ValueError: If no tensor is like that.
    """
    start, end = data_offsets
    numbers = [*shape, start, end]
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or end < start:
        raise ValueError(f"a tensor of {dtype!r} of the shape {shape!r}")
    return Stored(tuple(shape), end - start)


def split_vocabulary(tensors: Mapping[str, Stored], size: int) -> dict[str, int]:
    """Bytes of a vocabulary's rows, its file's header among them, and of its projection.

    Args:
        tensors: Those of its file.
        size: Bytes of the file.
    """
    projection = sum(each.size for name, each in tensors.items() if name.startswith("projection."))
    parts = {"vocabulary rows": size - projection}
    return {**parts, "projection": projection} if projection else parts


def split_adapter(tensors: Mapping[str, Stored], size: int) -> dict[str, int]:
    """Bytes of a DASD adapter by `PIECES`; nothing for another method's.

    Args:
        tensors: Those of its file.
        size: Bytes of the file.
    """
    kinds = {name: _piece(name) for name in tensors}
    if None in kinds.values() or not kinds:
        return {}
    sums = dict.fromkeys(PIECES, 0)
    for name, kind in kinds.items():
        sums[str(kind)] += tensors[name].size
    sums["header"] = size - sum(sums.values())
    return {piece: count for piece, count in sums.items() if count}


def _piece(name: str) -> str | None:
    if ".dasd_bottleneck." in name:
        return "bottlenecks"
    if ".dasd_disentangler." in name:
        return "disentangler"
    return _GENERATOR.get(name.partition(".dasd_generator.")[2])


def generator_of(tensors: Mapping[str, Stored]) -> Generator | None:
    """The generator in an adapter's file; `None` where no core depends on the caption."""
    weights = {name.partition(".dasd_generator.")[2]: each for name, each in tensors.items()}
    cores, mixture = weights.get("cores.weight"), weights.get("mixture.weight")
    if cores is None or len(cores.shape) != 2 or not math.prod(cores.shape):
        return None
    outputs, inputs = cores.shape
    width = cores.size // (outputs * inputs)
    if mixture is None:
        return Generator(None, inputs, outputs, width)
    return Generator(inputs, mixture.shape[-1], outputs, width) if len(mixture.shape) == 2 else None
