"""MLA: a static acquirer after every block, trained in two stages (Zhang et al. 2022). The baseline that DASD improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ccr_adapters.methods.base import Terms
from ccr_adapters.methods.dasd import DASD, DASDTerms


class MLA(DASD):
    """Native language transfer, then language exposure; the terms are a part of DASD's.

    Args:
        model: A model with the language added.
        language: Its code.
        terms: Weights of the terms.
        visual_bank: Vectors of all training pictures, where a term asks for them. (M, d)
    """

    stages: ClassVar[Mapping[str, Terms]] = {
        "nlt": DASDTerms(alignment=1.0),
        "le": DASDTerms(contrastive=1.0),
    }
    # Zhang et al. publish none that fit: those of DASD's stages, so that the two compare
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {"le": {"learning_rate": 6e-6}}
    adapter: ClassVar[Mapping[str, Any]] = {"peft_type": "DASD", "mode": "static"}
