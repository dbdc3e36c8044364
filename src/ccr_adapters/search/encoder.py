"""The image tower of a model, cut where an indexer needs it: pictures to tensors in many threads, tensors to vectors in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.towers import pooler_output
from ccr_adapters.search.interface import Vectors


class PictureEncoder:
    """Encodes pictures into the space of a model's base, which no language changes.

    Attributes:
        base: Name of the base.
        base_sha256: Hash of its weights.
        revision: Its revision, where it has one.
        dim: Width of the vectors.
    """

    def __init__(self, model: CCRModel) -> None:
        """Take the image tower of a model.

        Args:
            model: The model, with a processor.

        Raises:
            SearchIndexError: If it sees no pictures.
        """
        if model.processor is None or "image" not in model.modalities:
            raise SearchIndexError(
                "This model has no image tower, so it cannot index pictures. Take a dual encoder (CLIP)."
            )
        self._model, self._processor = model, model.processor
        self.base = model.config.base_model_name_or_path or "unnamed"
        self.base_sha256 = model.base_sha256()
        self.revision = model.config.base_revision
        self.dim = model.embedding_dim

    def prepare(self, picture: Image.Image) -> dict[str, Tensor]:
        """Bring a picture to the form that the tower takes; in any thread.

        Args:
            picture: RGB.

        Returns:
            Tensors, the first axis of which is one picture.
        """
        return dict(self._processor.picture_inputs([picture]))

    def encode(self, prepared: Sequence[dict[str, Tensor]]) -> Vectors:
        """Encode a batch.

        Args:
            prepared: What `prepare` gave.

        Returns:
            Float32 of length one (N, d); NaN where the tower gave nothing finite.
        """
        inputs = {name: torch.cat([each[name] for each in prepared]) for name in prepared[0]}
        place, precision = self._model.device, self._model.dtype
        moved = {
            name: tensor.to(place, precision) if tensor.is_floating_point() else tensor.to(place)
            for name, tensor in inputs.items()
        }
        with torch.inference_mode():
            features = pooler_output(self._model.get_image_features(**moved)).float()
            vectors: Vectors = F.normalize(features, dim=-1).cpu().numpy()  # (N, d)
        return vectors.astype(np.float32, copy=False)
