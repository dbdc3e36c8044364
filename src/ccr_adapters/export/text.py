"""The text tower of one language as a plain module: ids and mask in, vectors out, the generator inside."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ccr_adapters.dasd import Condition, find_text_encoder
from ccr_adapters.dasd.condition import BASE, unhook_text_module
from ccr_adapters.errors import ExportError
from ccr_adapters.export.fold import fold
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.modeling.towers import TextTower
from ccr_adapters.processing.captions import pad_token_id

# so long is the batch that is traced: neither 0 nor 1, which torch.export takes for constants
_EXAMPLE = (2, 7)


class TextExport(nn.Module):
    """A copy of the text tower, with one language in it and in float32.

    What `CCRModel` decides for each call (whose adapter, which padding, where captions end) is decided here once, so that
    the rest is tensors: `torch.export` traces it for any number of captions of any length. The condition of dynamic
    adapters is made and used up inside `forward`.

    Args:
        model: The model; later changes to it do not reach the copy.
        language: The language; `None` is the base, `"active"` the model's active one.

    Raises:
        ExportError: If the adapter cannot be exported.
        LanguageError: If there is no such language.
    """

    def __init__(self, model: CCRModel, language: str | None = "active") -> None:
        super().__init__()
        code = model.resolve_language(language)
        with model.shelf.using(model, [] if code is None else [code]):
            self._take(model, code)

    def _take(self, model: CCRModel, code: str | None) -> None:
        processor = processor_of(model)
        own = None if code is None else model.config.languages.get(code)
        # no language has the name of the base
        name = code or BASE
        table = dict(model.vocabularies.items()).get(name)
        head: Any = model.heads[name].text if name in model.heads else None
        tower, table, head = _copied(model, (table, head))
        encoder = tower.encoder
        parts = nn.ModuleList([encoder.module, *tower.maps])
        self.dynamic = fold(parts, code)
        if not self.dynamic:
            unhook_text_module(encoder.module, encoder.carrier)
        self.text, self.maps, self.head = parts[0], parts[1:], head
        self.table = encoder.token_embedding if table is None else table
        tower.maps = list(self.maps)
        self.tower = tower
        self.language = code
        self.max_length = min(
            processor.languages.get(name, (None, processor.base_max_length))[1], processor.base_max_length
        )
        # padding that is read: all of it by bases that want one length, by the features of converted adapters alone
        self.reads_padding = processor.reads_padding(code)
        self.length = processor.base_max_length if self.reads_padding else getattr(own, "pad_to", None)
        self.pad_id = pad_token_id(processor.tokenizer_for(code))
        if self.length is not None and self.length < self.max_length:
            raise ExportError(
                f"Captions of {code!r} may have {self.max_length} tokens, and its adapter reads them padded to {self.length}: "
                f"the graph has one length. Set max_length={self.length} for the language."
            )
        self.float().cpu().eval().requires_grad_(False)

    @property
    def pooling(self) -> str:
        """Which state stands for a caption."""
        return "head" if self.head is not None else str(self.tower.pooling)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode captions.

        Args:
            input_ids: Ids of the language's own tokenizer, padded on the right with anything inside its table. (B, L)
            attention_mask: 1 at real tokens. (B, L)

        Returns:
            L2-normalised vectors. (B, d)
        """
        input_ids, mask = self._padded(input_ids, attention_mask)
        ends = mask.sum(dim=1) - 1  # (B,)
        condition = Condition(input_ids, mask, None, ends) if self.dynamic else None
        if self.reads_padding and condition is not None:
            condition.attention_mask = None
        # a causal encoder's end token sees nothing behind it
        seen = None if self.reads_padding or self.tower.family == "eos" else mask
        features, last = self.tower(self.table(input_ids), seen, ends, condition)  # (B, d), (B, L, w)
        if self.head is not None:
            features = self.head(last, mask)
        return F.normalize(features, dim=-1)

    def _padded(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Captions at the length at which the padding is read, with the token that it reads there. (B, L')"""
        if self.length is None:
            return ids, mask
        ids = torch.where(mask == 0, self.pad_id, ids)
        more = ids.new_full((ids.shape[0], self.length), self.pad_id)
        # cut from too many, rather than padded by the difference: what comes out then has one length in every graph
        ids = torch.cat([ids, more], dim=1)[:, : self.length]
        if self.reads_padding:
            return ids, torch.ones_like(ids)
        return ids, torch.cat([mask, torch.zeros_like(more)], dim=1)[:, : self.length]

    def example(self) -> tuple[Tensor, Tensor]:
        """Inputs to trace with. (B, L) each"""
        batch, length = _EXAMPLE[0], min(_EXAMPLE[1], self.max_length)
        ids = torch.ones((batch, length), dtype=torch.long)
        mask = torch.ones_like(ids)
        mask[1, -1] = 0
        return ids, mask

    def dynamic_shapes(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Which axes of the inputs have any size, for `torch.export`."""
        axes = {0: Dim("batch", min=1), 1: Dim("length", min=2, max=self.max_length)}
        return axes, axes


def _copied(model: CCRModel, parts: tuple[nn.Module | None, ...]) -> tuple[Any, ...]:
    """Copies of a text tower and its parts, without the image tower."""
    encoder = find_text_encoder(model.base)
    tower = TextTower(model.base, encoder, model.config.pooling)
    memo: dict[int, Any] = {} if encoder.module is model.base else {id(model.base): nn.Identity()}
    copied: tuple[Any, ...] = copy.deepcopy((tower, *parts), memo)
    return copied
