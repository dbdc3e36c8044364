"""The first stage of the fine-tuning setting: the base itself, on the English pairs of the data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ccr_adapters.methods.base import Method
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.objectives import info_nce


class EnglishFineTune(Method):
    """InfoNCE between English captions and pictures, both ways; trains the whole base.

    Args:
        model: A model without languages yet: an adapter would not fit the changed base.
        scale: Inverse temperature.
    """

    # Cai et al. 2025
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {"english": {"learning_rate": 3e-6, "num_train_epochs": 5}}

    def __init__(self, model: CCRModel, scale: float = 100.0) -> None:
        super().__init__(model, None)
        self.scale = scale
        model.unfreeze_base()

    def forward(  # type: ignore[override]
        self,
        source_input_ids: Tensor,
        source_attention_mask: Tensor,
        image_index: Tensor,
        pixel_values: Tensor | None = None,
        visual_vectors: Tensor | None = None,
        **pictures: Tensor,
    ) -> dict[str, Tensor]:
        """Terms of a batch.

        Args:
            source_input_ids: Ids of the English captions. (B, L)
            source_attention_mask: 1 at real tokens. (B, L)
            image_index: Which picture each row shows. (B,)
            pixel_values: Pictures, for a base with an image tower. (B, 3, H, W)
            visual_vectors: Their vectors, for a text encoder alone. (B, d)
            pictures: What else the image tower takes: SigLIP 2 at native resolution reads masks and shapes.
        """
        source = self.model.base_features(input_ids=source_input_ids, attention_mask=source_attention_mask)
        if pixel_values is not None:
            visual_vectors = pooler_output(self.model.get_image_features(pixel_values, **pictures))
        self.observe_vectors(source, visual_vectors)  # type: ignore[arg-type]
        return {"contrastive": info_nce(source, visual_vectors, scale=self.scale, ids=image_index)}  # type: ignore[arg-type]
