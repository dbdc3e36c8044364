"""Models as other libraries take them: ONNX, torch.export, sentence-transformers, open_clip.

The names are loaded on first use, because an exported folder is read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccr_adapters.export.image import ImageExport
    from ccr_adapters.export.onnx import export_onnx
    from ccr_adapters.export.open_clip import open_clip_form
    from ccr_adapters.export.parity import Parity
    from ccr_adapters.export.program import load_program, save_program
    from ccr_adapters.export.runtime import OnnxEncoder
    from ccr_adapters.export.sentence_transformer import save_sentence_transformer, to_sentence_transformer
    from ccr_adapters.export.text import TextExport

_EXPORTS: dict[str, str] = {
    "ImageExport": "image",
    "export_onnx": "onnx",
    "open_clip_form": "open_clip",
    "Parity": "parity",
    "load_program": "program",
    "save_program": "program",
    "OnnxEncoder": "runtime",
    "save_sentence_transformer": "sentence_transformer",
    "to_sentence_transformer": "sentence_transformer",
    "TextExport": "text",
}

__all__ = [
    "ImageExport",
    "export_onnx",
    "open_clip_form",
    "Parity",
    "load_program",
    "save_program",
    "OnnxEncoder",
    "save_sentence_transformer",
    "to_sentence_transformer",
    "TextExport",
]


def __getattr__(name: str) -> object:
    """Import an exported name on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it exports {', '.join(_EXPORTS)}")
    value: object = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
