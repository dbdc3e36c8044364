"""Examples to tensors: captions, pictures, and the batches that training takes."""

from __future__ import annotations

from ccr_adapters.processing.processor import CCRProcessor

__all__ = ["CCRProcessor"]
