"""How far an export's vectors are from the model's, whether it would find the same, and what it saves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ccr_adapters.errors import ExportError
from ccr_adapters.export.runtime import OnnxEncoder
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.processing import CCRProcessor

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]

SMALLEST_COSINE = 0.9999
"""An export in float32 below it is not the same model, and is refused."""


@dataclass(frozen=True)
class Parity:
    """An export against the model.

    Args:
        rows: Captions or pictures that both encoded.
        largest_error: Largest absolute difference of a component.
        smallest_cosine: Of a row's two vectors.
        top10_overlap: Share of the ten nearest other rows that stays the same, the mean over rows.
        seconds_model: Time of the model, the median of some rounds.
        seconds_export: Time of the export.
    """

    rows: int
    largest_error: float
    smallest_cosine: float
    top10_overlap: float
    seconds_model: float
    seconds_export: float

    @classmethod
    def of(
        cls,
        model: Callable[[], Vectors],
        export: Callable[[], Vectors],
        *,
        rounds: int = 3,
    ) -> Parity:
        """Encode the same rows with both, in turns, after one round that is not timed."""
        expected, found = model(), export()
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for encode, taken in zip((model, export), seconds, strict=True):
                start = time.perf_counter()
                encode()
                taken.append(time.perf_counter() - start)
        return cls(
            rows=len(expected),
            largest_error=float(np.abs(expected - found).max()),
            smallest_cosine=float(cosines(expected, found).min()),
            top10_overlap=top_overlap(expected, found),
            seconds_model=median(seconds[0]),
            seconds_export=median(seconds[1]),
        )

    @property
    def speedup(self) -> float:
        """How many times faster the export is."""
        return self.seconds_model / self.seconds_export

    def check(self, what: str) -> None:
        """Refuse an export that is another model.

        Raises:
            ExportError: If a vector points elsewhere.
        """
        # not the other way round: a cosine that is not a number is smaller than nothing
        if not self.smallest_cosine >= SMALLEST_COSINE:
            raise ExportError(
                f"The exported {what} tower gives other vectors than the model: the smallest cosine is "
                f"{self.smallest_cosine:.6f}, at least {SMALLEST_COSINE} was expected. Nothing was written. Try another opset, "
                "and report the base with the versions of torch and onnxruntime."
            )

    def to_dict(self) -> dict[str, float]:
        """As JSON values, times left out: they belong to one machine."""
        return {key: value for key, value in asdict(self).items() if not key.startswith("seconds")}


def cosines(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Cosine of each row of one with the same row of the other. (N, d), (N, d) -> (N,)"""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    found: NDArray[np.float64] = (a64 * b64).sum(axis=1) / lengths
    return found


def top_overlap(expected: Vectors, found: Vectors, k: int = 10) -> float:
    """Share of each row's `k` nearest other rows that both agree on, the mean over rows."""
    k = min(k, len(expected) - 1)
    if k < 1:
        return 1.0
    nearest = []
    for vectors in (expected, found):
        # the rows searched are the model's for both, as those of an index would be
        scores = vectors @ expected.T
        np.fill_diagonal(scores, -np.inf)
        nearest.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    shared = [len(set(a) & set(b)) for a, b in zip(*(rows.tolist() for rows in nearest), strict=True)]
    return float(np.mean(shared) / k)


def sample_captions(processor: CCRProcessor, language: str | None, count: int = 64, seed: int = 0) -> list[str]:
    """Captions of a language made of its own tokens, of all lengths: every language has them, whatever its data."""
    tokenizer = processor.tokenizer_for(language)
    special = set(tokenizer.all_special_ids)
    words = [index for index in range(len(tokenizer)) if index not in special]
    longest = max(1, processor.base_max_length // 2)
    random = np.random.default_rng(seed)
    found: list[str] = []
    while len(found) < count:
        length = int(random.integers(1, longest + 1))
        text = tokenizer.decode(random.choice(words, length).tolist(), skip_special_tokens=True).strip()
        found += [text] if text else []
    return found


def sample_pictures(count: int = 32, seed: int = 0) -> list[Image.Image]:
    """Pictures of many shapes: coloured noise, blown up so that it has some structure."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = random.integers(0, 256, (*random.integers(2, 9, 2), 3), dtype=np.uint8)
        width, height = (int(edge) for edge in random.integers(48, 320, 2))
        found.append(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return found


def compare_text(
    model: CCRModel, code: str | None, encoder: OnnxEncoder, captions: Sequence[str] | None = None
) -> Parity:
    """Captions by the model and by an exported folder, from strings to vectors."""
    chosen = list(captions or sample_captions(processor_of(model), code))

    def eager() -> Any:
        return model.encode_text(chosen, code).float().cpu().numpy()

    return Parity.of(eager, lambda: encoder.encode_text(chosen))


def compare_images(
    model: CCRModel, code: str | None, encoder: OnnxEncoder, pictures: Sequence[Any] | None = None
) -> Parity:
    """Pictures by the model and by an exported folder, from pixels to vectors.

    The pixels are the folder's for both: image processors resize a little differently with Pillow and with torchvision,
    which is no fault of a graph. A difference between them is warned of.
    """
    chosen = list(pictures or sample_pictures())
    settings = encoder.manifest.towers["image"].pictures
    if settings is None:
        raise ExportError("The folder does not say how pictures become pixels.")
    pixels = settings.pixels(chosen)
    far = np.abs(pixels - processor_of(model).picture_inputs(chosen)["pixel_values"].float().numpy()).max()
    if far > 1e-3:
        logger.warning(
            "The image processor of the base makes other pixels than Pillow does, by up to %.3f. Vectors of pictures will "
            "differ a little between the model and the export.",
            far,
        )

    def eager() -> Any:
        read = torch.from_numpy(settings.pixels(chosen)).to(model.device, model.dtype)
        with torch.inference_mode():
            vectors = pooler_output(model.get_image_features(read))
        return model.map_visual(vectors, code).float().cpu().numpy()

    return Parity.of(eager, lambda: encoder.encode_image(chosen))


def table(reports: dict[str, Parity]) -> str:
    """Reports as lines for people, one column a tower."""
    rows: Sequence[tuple[str, Callable[[Parity], str]]] = (
        ("rows", lambda one: str(one.rows)),
        ("largest error", lambda one: f"{one.largest_error:.1e}"),
        ("smallest cosine", lambda one: f"{one.smallest_cosine:.6f}"),
        ("top-10 overlap", lambda one: f"{one.top10_overlap:.3f}"),
        ("seconds, model", lambda one: f"{one.seconds_model:.3f}"),
        ("seconds, export", lambda one: f"{one.seconds_export:.3f}"),
        ("times faster", lambda one: f"{one.speedup:.2f}"),
    )
    lines = [" " * 17 + "".join(f"{name:>14}" for name in reports)]
    lines += [f"{name:<17}" + "".join(f"{value(one):>14}" for one in reports.values()) for name, value in rows]
    return "\n".join(lines)
