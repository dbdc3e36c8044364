"""The target language's own token embedding, with a linear map into the encoder's width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.errors import AdapterError, ConfigError

WIDEST = 8  # times the encoder's width: rows that nobody trained are in no file, so nothing else bounds their table


class Vocabulary(nn.Module):
    """Ids of the target tokenizer to states of the encoder's width.

    The table can be trained whole, only on the rows that the training captions touch, or not at all. Rows that are not
    trained are a frozen copy of `source`, or zero where there is none.

    Args:
        config: Sizes, and which rows are trained.
        width: Width of the encoder's states, `w`.
        source: Table to start from. (n, e) Rows that are not trained are taken from it only if the configuration names
            where it comes from, since they are not saved.
        touched: Ids of the trained rows, for `train="touched"`.
        initialise: `False` where all that is trained is about to be loaded.
    """

    ids: Tensor
    slots: Tensor

    def __init__(
        self,
        config: VocabularyConfig,
        width: int,
        *,
        source: Tensor | None = None,
        touched: Iterable[int] | None = None,
        initialise: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        _check_width(config, width)
        whole = config.train == "all"
        if source is not None and tuple(source.shape) != (config.size, config.width):
            raise AdapterError(
                f"The source table has shape {tuple(source.shape)}, the vocabulary {(config.size, config.width)}."
            )
        if initialise:
            self.table = nn.Embedding(config.size, config.width)
        else:
            self.table = nn.Embedding.from_pretrained(torch.empty(config.size, config.width))
        self._fill(source, initialise=initialise)
        self.table.weight.requires_grad_(whole)
        if config.train == "touched":
            ids = torch.tensor(sorted(set(touched or ())), dtype=torch.long)  # (k,)
            if not len(ids):
                raise AdapterError("No trained rows: pass the ids that the training captions touch.")
            if int(ids[0]) < 0 or int(ids[-1]) >= config.size:
                raise AdapterError(f"Trained rows {int(ids[0])} to {int(ids[-1])} in a table of {config.size}.")
            self.register_buffer("ids", ids)
            slots = torch.full((config.size,), -1, dtype=torch.long)
            slots[ids] = torch.arange(len(ids))
            self.register_buffer("slots", slots, persistent=False)
            start = source[ids] if source is not None else torch.randn(len(ids), config.width) * 0.02
            self.rows = nn.Parameter(start.clone())  # (k, e)
        self.projection: nn.Linear | None = None
        if _projects(config, width):
            self.projection = nn.Linear(config.width, width)
            if config.width == width:
                # the identity, so that rows taken from the encoder's own table keep their meaning
                nn.init.eye_(self.projection.weight)
                nn.init.zeros_(self.projection.bias)

    @torch.no_grad()
    def _fill(self, source: Tensor | None, *, initialise: bool) -> None:
        """The table before any training."""
        whole = self.config.train == "all"
        # untrained rows are not saved, so they must be what a loader finds: the named source's, or zero
        if source is not None and (whole or self.config.source is not None):
            self.table.weight.copy_(source)
        elif not whole:
            self.table.weight.zero_()
        elif initialise:
            nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up and project. (B, L) -> (B, L, w)"""
        states = self.table(input_ids)  # (B, L, e)
        if self.config.train == "touched":
            slots = self.slots[input_ids]  # (B, L)
            trained = self.rows[slots.clamp_min(0)]  # (B, L, e)
            states = torch.where((slots >= 0).unsqueeze(-1), trained, states)
        return states if self.projection is None else self.projection(states)

    def rows_of(self, ids: Tensor) -> Tensor:
        """Rows as they are used, before the projection. (k,) -> (k, e)"""
        rows = self.table.weight.detach()[ids]
        if self.config.train == "touched":
            slots = self.slots[ids]
            rows = torch.where((slots >= 0).unsqueeze(-1), self.rows.detach()[slots.clamp_min(0)], rows)
        return rows

    def mix(self, ids: Tensor, rows: Tensor, share: float) -> None:
        """Move rows towards others, those that are trained alone.

        Args:
            ids: Which rows. (k,)
            rows: The others. (k, e)
            share: How far, from 0 to 1.
        """
        place, slots = self.table.weight, ids
        if self.config.train == "touched":
            place, slots = self.rows, self.slots[ids]
        elif self.config.train == "none":
            return
        kept = slots >= 0
        with torch.no_grad():
            place[slots[kept]] = place[slots[kept]].lerp(rows[kept].to(place), share)

    def trained_state(self) -> dict[str, Tensor]:
        """What was trained, and so has to be saved: rows and projection, never a frozen table."""
        state: dict[str, Tensor] = {}
        if self.config.train == "all":
            state["table"] = self.table.weight.detach()
        elif self.config.train == "touched":
            state["ids"] = self.ids
            state["rows"] = self.rows.detach()
        if self.projection is not None:
            state["projection.weight"] = self.projection.weight.detach()
            state["projection.bias"] = self.projection.bias.detach()
        return state

    def changed_rows(self, source: Tensor, tolerance: float) -> tuple[VocabularyConfig, dict[str, Tensor]]:
        """What has to be saved by someone whose readers have the source: rows that differ from it, and the projection.

        Args:
            source: The table that training started from. (n, e)
            tolerance: A row of which every value is no further from the source is left out.

        Returns:
            The configuration of what is left, and its tensors.

        Raises:
            ConfigError: If the tolerance is below 0.
        """
        if not tolerance >= 0:
            raise ConfigError(f"`row_tolerance` is {tolerance!r}; expected a number, 0 or more.")
        state = {key: value for key, value in self.trained_state().items() if key.startswith("projection.")}
        table = self.table.weight.detach().clone()
        if self.config.train == "touched":
            table[self.ids] = self.rows.detach()
        # readers find the source in the precision of the file
        moved = (table.float() - source.to(table.device).float()).abs().amax(dim=1) > tolerance  # (n,)
        if not moved.any():
            return replace(self.config, train="none"), state
        ids = moved.nonzero().squeeze(1)
        return replace(self.config, train="touched"), {**state, "ids": ids, "rows": table[ids]}

    @classmethod
    def from_trained_state(
        cls, config: VocabularyConfig, width: int, state: dict[str, Tensor], *, source: Tensor | None = None
    ) -> Vocabulary:
        """Rebuild from `trained_state`.

        Raises:
            AdapterError: If a tensor is missing, left over, or of another shape.
        """
        # checked before anything is built: a crafted configuration must not make the loader allocate
        _check_width(config, width)
        ids = state.get("ids", torch.empty(0))
        shapes: dict[str, tuple[int, ...]] = {}
        if config.train == "all":
            shapes["table"] = (config.size, config.width)
        elif config.train == "touched":
            shapes.update(ids=(ids.numel(),), rows=(ids.numel(), config.width))
        if _projects(config, width):
            shapes.update({"projection.weight": (width, config.width), "projection.bias": (width,)})
        missing, extra = sorted(set(shapes) - set(state)), sorted(set(state) - set(shapes))
        if missing or extra:
            raise AdapterError(f"Vocabulary file: missing {missing or 'nothing'}, unexpected {extra or 'nothing'}.")
        for name, shape in shapes.items():
            if tuple(state[name].shape) != shape:
                raise AdapterError(f"Vocabulary file: '{name}' has shape {tuple(state[name].shape)}, expected {shape}.")
            if (state[name].dtype == torch.int64) != (name == "ids"):
                raise AdapterError(f"Vocabulary file: '{name}' holds {state[name].dtype}.")
        if (ids.diff() <= 0).any():
            raise AdapterError("Vocabulary file: 'ids' are not in order, or one is there twice.")
        vocabulary = cls(config, width, source=source, touched=ids.tolist(), initialise=False)
        expected = vocabulary.trained_state()
        with torch.no_grad():
            for name, value in expected.items():
                value.copy_(state[name])
        return vocabulary


def _projects(config: VocabularyConfig, width: int) -> bool:
    return config.projection if config.projection is not None else config.width != width


def _check_width(config: VocabularyConfig, width: int) -> None:
    """Refuse rows that an encoder of that width cannot take, or that only a crafted configuration would have."""
    if not _projects(config, width) and config.width != width:
        raise AdapterError(f"Rows of width {config.width} need a projection into an encoder of width {width}.")
    if config.train != "all" and config.width > WIDEST * width:
        raise AdapterError(f"Rows of width {config.width} are too wide for an encoder of width {width}.")
