"""Subword regularisation: the words of a training caption are cut into other pieces each time it is read.

A vocabulary from few captions meets many words that it has never seen. They fall into small pieces which training hardly
touched, since every word that it did see was cut in its one best way. Cut at random, in the proportions of the unigram model
itself (Kudo 2018, "Subword Regularization", section 3), the small pieces learn what they stand for too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ccr_adapters.errors import ConfigError

# Words whose cuts are kept, by length, and how much of them: without spaces a word is a clause, which hardly comes again
_LONGEST_KEPT = 24
_MOST_KEPT = 100_000  # characters, of half a kilobyte each
# the tokenizer's own penalty for a character that no piece covers, below the worst piece
UNKNOWN_PENALTY = 10.0


Lattice: TypeAlias = list[tuple[list[int], list[int], list[float]]]
"""For each end of a piece: where it can start, its id, and the running sum of their shares (forward filtering)."""


class SubwordSampler:
    """Cuts captions into pieces at random.

    Args:
        tokenizer: A fast tokenizer of transformers with a unigram model, as `train_tokenizer` makes and XLM-R has.
        smoothing: Exponent on the probability of a cut: 1 keeps the model's, towards 0 all cuts become alike.

    Raises:
        ConfigError: If the tokenizer is of another kind.
    """

    def __init__(self, tokenizer: Any, smoothing: float = 0.3) -> None:
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        model = json.loads(backend.to_str())["model"] if backend is not None else {}
        if model.get("type") != "Unigram":
            raise ConfigError(
                f"Only a unigram vocabulary can be cut at random; this tokenizer is {model.get('type') or 'a slow one'}. Write "
                "`vocabulary.sampling: 0`, or `vocabulary.kind: unigram`."
            )
        self.backend = backend
        self.smoothing = smoothing
        self.pieces = {piece: (index, score) for index, (piece, score) in enumerate(model["vocab"])}
        self.longest = max(map(len, self.pieces))
        self.unknown = int(model["unk_id"])
        self.worst = min(score for _, score in self.pieces.values()) - UNKNOWN_PENALTY
        probe = backend.encode("a")
        inner = [place for place, special in enumerate(probe.special_tokens_mask) if not special]
        self.around = (probe.ids[: inner[0]], probe.ids[inner[-1] + 1 :])
        self._lattices: dict[str, Lattice] = {}
        self._kept = 0  # characters in them

    def __call__(self, caption: str, seed: Sequence[int]) -> list[int]:
        """Ids of a caption, cut by a seed, between the special tokens that the tokenizer puts around it."""
        generator = np.random.default_rng(list(seed))
        text = caption if self.backend.normalizer is None else self.backend.normalizer.normalize_str(caption)
        words = (
            [(text, None)] if self.backend.pre_tokenizer is None else self.backend.pre_tokenizer.pre_tokenize_str(text)
        )
        ids = [index for word, _ in words for index in self._cut(word, generator)]
        return [*self.around[0], *ids, *self.around[1]]

    def _cut(self, word: str, generator: np.random.Generator) -> list[int]:
        lattice = self._lattices.get(word) or self._lattice(word)
        end, found = len(word), list[int]()
        while end:
            starts, ids, shares = lattice[end]
            chosen = int(np.searchsorted(shares, generator.random() * shares[-1], side="right")) if len(ids) > 1 else 0
            if not (ids[chosen] == self.unknown and found and found[-1] == self.unknown):  # a run of unknowns is one
                found.append(ids[chosen])
            end = starts[chosen]
        return found[::-1]

    def _lattice(self, word: str) -> Lattice:
        """All cuts of a word; kept, if it is likely to come again."""
        forward = [0.0] + [-math.inf] * len(word)  # log of the summed weight of all cuts of word[:i]
        lattice: Lattice = [([], [], [])]
        for end in range(1, len(word) + 1):
            edges = []
            for start in range(max(0, end - self.longest), end):
                piece = self.pieces.get(word[start:end])
                if piece is not None:
                    edges.append((start, piece[0], forward[start] + self.smoothing * piece[1]))
            if not any(start == end - 1 for start, _, _ in edges):
                edges.append((end - 1, self.unknown, forward[end - 1] + self.smoothing * self.worst))
            top = max(weight for _, _, weight in edges)
            shares = np.cumsum([math.exp(weight - top) for _, _, weight in edges])
            forward[end] = top + math.log(shares[-1])
            lattice.append(([start for start, _, _ in edges], [index for _, index, _ in edges], shares.tolist()))
        if len(word) <= _LONGEST_KEPT:
            if self._kept > _MOST_KEPT:
                self._lattices, self._kept = {}, 0
            self._lattices[word] = lattice
            self._kept += len(word)
        return lattice
