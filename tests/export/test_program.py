"""Programs of torch.export: written, read, and called with other numbers and lengths than they were traced with."""

from __future__ import annotations

import pytest
import torch

from ccr_adapters.errors import ConfigError, ExportError
from ccr_adapters.export import TextExport, load_program, save_program


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("siglip", "full"),
        ("bert", "upper blocks"),
        ("xlmr", "head"),
    ],
)
def test_captions_of_another_number_and_length(family, kind, make, random_batch, tmp_path):
    model = make(family, kind)
    tower = TextExport(model, "de")
    program = load_program(save_program(model, "de", tmp_path / "text.pt2"))
    for count, length in ((1, 3), (2, 7), (5, 24)):
        batch = random_batch(100, max(2, count), length)
        ids, mask = batch["input_ids"][:count], batch["attention_mask"][:count]
        with torch.no_grad():
            torch.testing.assert_close(program(ids, mask), tower(ids, mask), rtol=0, atol=1e-5)


def test_the_file_holds_one_language_and_one_tower(make, tmp_path):
    model = make("clip", "dynamic")
    text = save_program(model, "de", tmp_path / "deep" / "text.pt2")
    image = save_program(model, "de", tmp_path / "deep" / "image.pt2", tower="image")
    assert sorted(path.name for path in text.parent.iterdir()) == ["image.pt2", "text.pt2"]
    names = list(load_program(text).state_dict())
    assert [name for name in names if "dasd_" in name]
    assert not [name for name in names if ".cs." in name or "vision" in name]
    program, pixels = load_program(image), torch.rand(3, 3, 16, 16)
    assert not [name for name in program.state_dict() if "text" in name]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model.get_image_features(pixels).pooler_output, dim=-1)
        torch.testing.assert_close(program(pixels), expected, rtol=0, atol=1e-6)


def test_what_is_wrong_is_said(make, tmp_path):
    model = make("clip", "dynamic")
    with pytest.raises(ConfigError, match=r"does not end in '\.pt2'"):
        save_program(model, "de", tmp_path / "text.pt")
    with pytest.raises(ConfigError, match="'both'; expected text or image"):
        save_program(model, "de", tmp_path / "text.pt2", tower="both")
    with pytest.raises(ExportError, match="There is no program"):
        load_program(tmp_path / "text.pt2")
    (tmp_path / "text.pt2").write_bytes(b"PK no")
    with pytest.raises(ExportError, match=r"no program of torch\.export"):
        load_program(tmp_path / "text.pt2")
