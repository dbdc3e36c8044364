"""The image tower as a plain module: pixels in, vectors in the space of one language out."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ccr_adapters.dasd import find_text_encoder
from ccr_adapters.errors import ExportError, ImageError
from ccr_adapters.export.fold import fold
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.modeling.towers import pooler_output


class ImageExport(nn.Module):
    """A copy of the image tower in float32, with the map of a language that has a space of its own.

    Args:
        model: The model; later changes to it do not reach the copy.
        language: For whose captions; it makes a difference only for a language with a space of its own.

    Raises:
        ExportError: If the image tower takes more than pixels.
        ImageError: If there is no image tower.
    """

    def __init__(self, model: CCRModel, language: str | None = "active") -> None:
        super().__init__()
        code, processor = model.resolve_language(language), processor_of(model)
        if "image" not in model.modalities or processor.image_processor is None:
            raise ImageError("This base has no image tower to export; take the text tower alone.")
        inputs = processor.image_processor.model_input_names
        if inputs != ["pixel_values"]:
            raise ExportError(
                f"The image tower takes {', '.join(inputs)}; only towers that take pixels of one size are exported."
            )
        own = model.space(code)
        with model.shelf.using(model, [] if own is None else [own]):
            head: Any = None if own is None else model.heads[own].visual
        # pictures need nothing of the text tower, so it is not copied
        encoder = find_text_encoder(model.base)
        text = [encoder.module, *(model.base.get_submodule(path) for path in encoder.anatomy.projection)]
        memo: dict[int, Any] = {id(part): nn.Identity() for part in text}
        self.base, self.head = copy.deepcopy((model.base, head), memo)
        # adapters may lie in the image tower, where a pattern of names found it; no picture comes by them
        fold(self.base, None)
        self.language = code
        self.size = _size(processor.image_processor)
        self.float().cpu().eval().requires_grad_(False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode pictures. (B, 3, H, W) -> (B, d), L2-normalised"""
        vectors = pooler_output(self.base.get_image_features(pixel_values=pixel_values))
        if self.head is not None:
            vectors = self.head(vectors)
        return F.normalize(vectors, dim=-1)

    def example(self) -> tuple[Tensor]:
        """Input to trace with. (B, 3, H, W)"""
        return (torch.zeros(2, 3, *self.size),)

    def dynamic_shapes(self) -> tuple[dict[int, Any]]:
        """Which axes of the input have any size, for `torch.export`."""
        return ({0: Dim("batch", min=1)},)


def _size(image_processor: Any) -> tuple[int, int]:
    """Height and width of the pixels that an image processor makes."""
    made = image_processor(images=[torch.zeros(3, 32, 32, dtype=torch.uint8)], return_tensors="pt")["pixel_values"]
    return int(made.shape[-2]), int(made.shape[-1])
