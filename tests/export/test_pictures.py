"""Pixels by Pillow alone, against the image processors of transformers."""

from __future__ import annotations

import numpy as np
import pytest
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.siglip import SiglipImageProcessorPil
from transformers.models.vit import ViTImageProcessorPil

from ccr_adapters.errors import ExportError
from ccr_adapters.export.parity import sample_pictures
from ccr_adapters.export.pictures import PictureSettings

SQUARE = {"height": 32, "width": 32}
PROCESSORS = {
    "CLIP": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    "CLIP, cropped": CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 24, "width": 31}),
    "SigLIP": SiglipImageProcessorPil(size={"height": 32, "width": 48}),
    "ViT": ViTImageProcessorPil(size=SQUARE),
    "not normalised": CLIPImageProcessorPil(size=SQUARE, do_center_crop=False, do_normalize=False),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_pixels_are_those_of_transformers(name, pictures):
    processor = PROCESSORS[name]
    chosen = [picture.convert("RGB") for picture in (*pictures, *sample_pictures(12))]
    expected = processor(images=chosen, return_tensors="np")["pixel_values"]
    found = PictureSettings.of(processor).pixels(chosen)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"size": {"shortest_edge": 20}, "crop_size": SQUARE},
        {"size": {"shortest_edge": 32}, "do_center_crop": False},
        {"do_resize": False, "crop_size": SQUARE},
        {"size": {"shortest_edge": 32, "longest_edge": 64}, "crop_size": SQUARE},
    ],
    ids=["crop larger", "no one size", "no resize", "longest edge"],
)
def test_what_is_not_written_out_is_refused(values):
    with pytest.raises(ExportError, match="is not written out here.*Export the text tower"):
        PictureSettings.of(CLIPImageProcessorPil(**values))
