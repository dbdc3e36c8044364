"""Passes over the text tower: which table, adapter and head each caption meets, whatever languages a batch mixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ccr_adapters.dasd import BASE, Condition, DASDLayer, find_text_encoder
from ccr_adapters.dasd.condition import ARGUMENT
from ccr_adapters.errors import ConfigError, LanguageError
from ccr_adapters.modeling.chunks import encode_in_chunks, map_in_chunks, splits
from ccr_adapters.modeling.host import LanguageHost
from ccr_adapters.modeling.packing import fewest_tokens, gradient_chunks, training_parts
from ccr_adapters.modeling.towers import TextTower
from ccr_adapters.processing.captions import end_token_id, pad_token_id


class CaptionPasses(LanguageHost):
    """A base with its languages that turns ids of captions into vectors; what else it encodes is [`CCRModel`]'s."""

    _rows_at_once: int | None = None
    _like_length = False

    def space(self, code: str | None) -> str | None:
        """Whose space the vectors of a language live in: its own code if it has a head, `None` for the base's."""
        if code is None:
            return None
        waiting = self.shelf.places.get(code) if code not in self.config.languages else None
        return code if code in self.heads or (waiting is not None and waiting.language.head is not None) else None

    def dim_of(self, code: str | None) -> int:
        """Width of the space that a language's vectors live in."""
        own = self.space(code)
        head = None if own is None else self.language_config(own).head
        return self.embedding_dim if head is None else head.space

    def mixes_languages(self) -> bool:
        """Whether rows of several languages can share a pass: dynamic adapters know names per row, others do not."""
        return not self.heads and all(isinstance(layer, DASDLayer) for layer in self._tuner_layers())

    def _tower(self) -> TextTower:
        return TextTower(self.base, find_text_encoder(self.base), self.config.pooling)

    @contextmanager
    def in_chunks(self, rows: int | None) -> Iterator[None]:
        """Encode `rows` rows at a time where gradients are wanted: memory for those, gradients of all (GradCache).

        Costs a second forward pass, which the backward pass makes. See [`ccr_adapters.modeling.chunks`].
        """
        before, self._rows_at_once = self._rows_at_once, rows
        try:
            yield
        finally:
            self._rows_at_once = before

    @contextmanager
    def by_length(self, wanted: bool = True) -> Iterator[None]:
        """Encode captions of like length together where gradients are wanted: what padding would cost is not computed.

        The vectors are those of one pass, up to rounding. How many passes a batch takes then depends on its lengths, also
        with `in_chunks`, so processes that must make the same calls, as those that share out the base, do without.
        """
        before, self._like_length = self._like_length, wanted
        try:
            yield
        finally:
            self._like_length = before

    def base_features(self, **inputs: Any) -> Tensor:
        """Features of the base, as if no adapter were there; not normalised. (B, d)"""
        with self.shelf.using(self, []):
            if splits(self._rows_at_once, len(inputs["input_ids"])):
                return map_in_chunks(self._base_rows, self._rows_at_once, inputs)  # type: ignore[arg-type]
            return self._base_rows(**inputs)

    def _base_rows(self, **inputs: Any) -> Tensor:
        if not any(isinstance(layer, DASDLayer) for layer in self._tuner_layers()):
            with self._others(None):
                return self._tower().source(**inputs)
        condition = Condition(adapter_names=[BASE] * len(inputs["input_ids"]))
        features = self._tower().source(**inputs, **{ARGUMENT: condition})
        self._check_met(condition)
        return features

    def _check_met(self, condition: Condition) -> None:
        """Refuse a base whose blocks were never told whose adapter each row meets."""
        if not condition.met and any(isinstance(layer, DASDLayer) for layer in self._tuner_layers()):
            raise ConfigError(
                f"The text encoder of a {type(self.base).__name__} does not hand keywords on to its blocks, so dynamic "
                "adapters cannot work in it. Say in `ccr_adapters.dasd.families.ANATOMIES` which module does (`carrier=`), or "
                "use another method (LoRA)."
            )

    def embed_tokens(self, input_ids: Tensor, code: str | None) -> Tensor:
        """Token states of a language, from its own table or the base's. (B, L) -> (B, L, w)"""
        if code is not None and code in self.vocabularies:
            return self.vocabularies[code](input_ids)
        return find_text_encoder(self.base).token_embedding(input_ids)

    def target_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        *,
        source: bool = False,
        keep_states: bool = True,
    ) -> tuple[Tensor, Tensor, Condition]:
        """Encode captions with their adapters.

        Args:
            input_ids: Ids of each language's own tokenizer. (B, L)
            attention_mask: 1 at real tokens; `None` takes all tokens as real, in a causal encoder those up to the end
                token. (B, L)
            pooled_at: Position of each end token. (B,)
            language: One for all rows, or one a row.
            source: The captions are in the base's language, with its ids, for a network that reads both (NRCCR).
            keep_states: `False` where the token states are not needed; chunks are then lighter, and give none.

        Returns:
            Features (B, d), not normalised, or those of the language's own space, which are; last token states
            (B, L, w); and the pass's condition, which holds the disentangled features of dynamic adapters.
        """
        with self.shelf.using(self, self._known_among(language)):
            spoken = language if isinstance(language, str) else next(iter(language), BASE)
            own = self.space(spoken) is not None
            given = (input_ids, attention_mask, pooled_at, language, source)
            features, last, condition = self._adapted(*given, keep_states=keep_states or own)
            if own:
                mask = condition.attention_mask
                real = torch.ones_like(input_ids) if mask is None else mask
                features = self.heads[spoken].text(last, real)  # type: ignore[operator]
        return features, last, condition

    def token_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        *,
        source: bool = False,
    ) -> Tensor:
        """Last token states of captions with their adapters; arguments as in `target_features`. -> (B, L, w)"""
        return self._adapted(input_ids, attention_mask, pooled_at, language, source)[1]

    def _adapted(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        source: bool,
        *,
        keep_states: bool = True,
    ) -> tuple[Tensor, Tensor, Condition]:
        """Captions through the text tower with their adapters, to the base's space, in chunks where that is asked for."""
        given = (input_ids, attention_mask, pooled_at, language, source)
        with self.shelf.using(self, self._known_among(language)):
            recompute = splits(self._rows_at_once, len(input_ids))
            # telling lengths makes the host wait for an accelerator, so only where there may be two parts
            large = input_ids.numel() >= 2 * fewest_tokens(input_ids.device)
            lengths, chunks = None, []
            if recompute or (self._like_length and large and torch.is_grad_enabled()):
                lengths = self._lengths(attention_mask, language)
            if recompute:
                padded = [input_ids.shape[1]] * len(input_ids)
                chunks = gradient_chunks(self._rows_at_once or 1, lengths or padded, by_tokens=self._like_length)
            elif lengths is not None:
                chunks = training_parts(lengths, input_ids.device)
            if len(chunks) < 2:
                return self._adapted_rows(*given)
            how: Any = {"recompute": recompute, "keep_states": keep_states, "lengths": lengths}
            return encode_in_chunks(self._adapted_rows, chunks, *given, **how)

    def _lengths(self, attention_mask: Tensor | None, language: str | Sequence[str]) -> list[int] | None:
        """Where the padding of each caption begins; `None` where it cannot be told, or is read. (B,)"""
        if attention_mask is None or self._tower().family == "last":
            return None
        for code in {language} if isinstance(language, str) else set(language):
            adapter = getattr(self.base, "peft_config", {}).get(code)
            reads = getattr(self.heads[code], "config", None) if code in self.heads else None
            if (
                self._pad_to(code) is not None
                or getattr(adapter, "sa_all_positions", False)
                or getattr(reads, "read_padding", False)
            ):
                return None
        places = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
        found: list[int] = (attention_mask.ne(0) * places).amax(dim=1).tolist()
        return found

    def _known_among(self, language: str | Sequence[str]) -> set[str]:
        """Languages of some rows, without the base, networks that only train, and those that are refused later."""
        return ({language} if isinstance(language, str) else set(language)).intersection(self.languages)

    def _adapted_rows(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pooled_at: Tensor | None,
        language: str | Sequence[str],
        source: bool,
    ) -> tuple[Tensor, Tensor, Condition]:
        tower = self._tower()
        codes = [language] * len(input_ids) if isinstance(language, str) else list(language)
        names = sorted(set(codes))
        for name in names:
            if name != BASE and name not in self.auxiliary:
                self.known_language(name)
        if len(codes) != len(input_ids):
            raise LanguageError(f"{len(codes)} languages for {len(input_ids)} captions; pass one, or one a caption.")
        if len(names) > 1 and not self.mixes_languages():
            raise LanguageError(f"These adapters take one language a pass, not {', '.join(names)}. Split the batch.")
        if pooled_at is None:
            pooled_at = self._end_positions(input_ids, attention_mask, tower, [BASE] * len(codes) if source else codes)
        if attention_mask is None and tower.family == "eos":
            # what stands behind the end token is padding
            attention_mask = (torch.arange(input_ids.shape[1], device=input_ids.device) <= pooled_at[:, None]).long()
        if not source:
            input_ids, attention_mask = self._padded(input_ids, attention_mask, codes)
        if len(names) == 1:
            states = self.embed_tokens(input_ids, None if source else names[0])
        else:
            states = input_ids.new_zeros((*input_ids.shape, tower.encoder.token_width), dtype=self.base.dtype)
            for name in names:
                rows = torch.tensor([i for i, code in enumerate(codes) if code == name], device=input_ids.device)
                states = states.index_copy(0, rows, self.embed_tokens(input_ids[rows], name).to(states.dtype))
        states = states.to(self.base.dtype)
        condition = Condition(input_ids, attention_mask, codes, pooled_at)
        others = names[0] if len(names) == 1 and names[0] != BASE else None
        # a causal encoder's end token sees nothing behind it, so padding needs no mask there, and attention runs faster
        mask = None if tower.family == "eos" else attention_mask
        with self._others(others):
            features, last = tower(states, mask, pooled_at, condition)
        self._check_met(condition)
        return features, last, condition

    def _padded(self, ids: Tensor, mask: Tensor | None, codes: list[str]) -> tuple[Tensor, Tensor | None]:
        """Captions at the length that a language wants, its own padding token behind them where it reads it. (B, L')"""
        wanted = {code: self._pad_to(code) for code in set(codes)}
        lengths = [length for length in wanted.values() if length is not None]
        if not lengths:
            return ids, mask
        mask = torch.ones_like(ids) if mask is None else mask
        more = max(0, max(lengths) - ids.shape[1])
        # every table has a row 0
        ids, mask = F.pad(ids, (0, more)), F.pad(mask, (0, more))
        tokens = [0 if wanted[code] is None else self._pad_token(code) for code in codes]
        reads = ids.new_tensor([wanted[code] is not None for code in codes]).bool().unsqueeze(1)  # (B, 1)
        return torch.where((mask == 0) & reads, ids.new_tensor(tokens).unsqueeze(1), ids), mask

    def _pad_to(self, code: str) -> int | None:
        """The length that captions of a language, or of its twin, are padded to, where they have one."""
        own = self.config.languages.get(self._twin_of(code))
        return None if own is None else own.pad_to

    def _twin_of(self, code: str) -> str:
        """The language of a network: of one that only trains, its twin's."""
        return self.auxiliary.get(code, code)

    def _pad_token(self, code: str) -> int:
        return 0 if self.processor is None else pad_token_id(self.processor.tokenizer_for(self._twin_of(code)))

    def _end_positions(
        self, input_ids: Tensor, attention_mask: Tensor | None, tower: TextTower, codes: list[str]
    ) -> Tensor:
        """Where each caption ends, for ids that come without. (B,)

        Raises:
            ConfigError: If captions are padded on the left, where no encoder here was trained to read them.
        """
        last = input_ids.new_full((len(input_ids),), input_ids.shape[1] - 1)
        if attention_mask is not None:
            real = attention_mask.ne(0)
            if bool((~real[:, 0] & real.any(dim=1)).any()):
                raise ConfigError(
                    "Captions are padded on the left. Pad them on the right, or name `pooled_at` for each."
                )
            places = torch.arange(1, input_ids.shape[1] + 1, device=input_ids.device)
            ends = ((real * places).amax(dim=1) - 1).clamp(min=0)
            if tower.family != "last":
                return ends
            # with the base's tokens its padding is read to the end; a language's own tokenizer has an end of its own
            own = input_ids.new_tensor([code in self.vocabularies for code in codes]).bool()
            return torch.where(own, ends, last)
        if tower.family != "eos":
            return last
        marks = [self._end_token(code, tower) for code in codes]
        found = input_ids == input_ids.new_tensor(marks).unsqueeze(1)  # (B, L)
        return torch.where(found.any(dim=1), found.int().argmax(dim=1), last)

    def _end_token(self, code: str, tower: TextTower) -> int:
        if self.processor is not None:
            return end_token_id(self.processor.tokenizer_for(None if code == BASE else self._twin_of(code)))
        adapter = getattr(self.base, "peft_config", {}).get(code)
        return getattr(adapter, "pooling_token_id", None) or tower.encoder.config.eos_token_id

    def _set_gradient_checkpointing(  # type: ignore[override]
        self, enable: bool = True, gradient_checkpointing_func: Any = checkpoint, **kwargs: Any
    ) -> None:
        """A block is computed again, in the backward pass, with the adapters that it was computed with.

        Raises:
            ConfigError: If that cannot be, for several networks in training.
        """
        if not getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant", False):
            # a function of its own, which a copy of a block does not copy, as it would a method's whole model
            how: Any = {"use_reentrant": False, "context_fn": lambda: self._as_now()}
            gradient_checkpointing_func = partial(gradient_checkpointing_func, **how)
        elif self.auxiliary and self._switches():
            raise ConfigError(
                "With `use_reentrant: true` activations would be computed again with the adapters of another network. Leave it out."
            )
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, **kwargs)

    def _as_now(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What a block is computed in, and computed again in: by then other adapters are active, or several."""
        return nullcontext(), self._switched([(x, x._disable_adapters, x._active_adapter) for x in self._switches()])

    def _switches(self) -> list[Any]:
        """Layers of adapters that are not DASD's (LoRA, ...), which know no names per row."""
        return [layer for layer in self._tuner_layers() if not isinstance(layer, DASDLayer)]

    def _others(self, code: str | None) -> AbstractContextManager[None]:
        """Switch those to one language for a pass, or off."""
        return self._switched(
            [(layer, code is None, layer._active_adapter if code is None else [code]) for layer in self._switches()]
        )

    def _seeing(self) -> AbstractContextManager[None]:
        """Switch those off that a picture or a video meets; none as a rule, and captions of other threads keep theirs."""
        read = set(find_text_encoder(self.base).module.modules())
        return self._switched([(layer, True, layer._active_adapter) for layer in self._switches() if layer not in read])

    @contextmanager
    def _switched(self, states: Sequence[tuple[Any, bool, list[str]]]) -> Iterator[None]:
        """Layers of peft with their adapters off or on, and which of them, for a while, in which other threads wait."""
        if not states:
            yield
            return
        with self.shelf.switching:
            before = [(layer, layer._disable_adapters, layer._active_adapter) for layer, _, _ in states]
            try:
                for layer, disabled, active in states:
                    layer._disable_adapters, layer._active_adapter = disabled, active
                yield
            finally:
                for layer, disabled, active in before:
                    layer._disable_adapters, layer._active_adapter = disabled, active
