"""A model as MTEB takes it: the subset of a task says the language, and the language the adapter."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ccr_adapters.configuration import BASE_LANGUAGES
from ccr_adapters.data.benchmarks.languages import codes_of, primary_language
from ccr_adapters.errors import EvaluationError, LanguageError
from ccr_adapters.extras import require
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.towers import pooler_output

logger = logging.getLogger(__name__)

ENGLISH = "en"


class MTEBModel:
    """Gives MTEB vectors of captions and pictures; it satisfies MTEB's `EncoderProtocol`.

    Captions go through the adapter of the subset's language, English ones through the base. A picture is seen once,
    however many subsets show it: XM3600 has 36 copies of 3,600.

    Args:
        model: The model with its languages.
        name: What results are filed under, `organisation/model`; by default made of the base and the languages.
        revision: Its revision; by default the hash of the base.
        language: Encode everything as this language, whatever the task says.
        missing: What happens to a language without an adapter: `"raise"`, or `"base"` to encode it with the base, which is
            logged.
        remember_pictures: Keep the vectors of pictures.

    Raises:
        LanguageError: If the model has no adapter for `language`.

    Example:
        ```python
        import mteb
        from ccr_adapters.evaluation.mteb import MTEBModel

        model = MTEBModel(CCRModel.from_pretrained("org/dasd-clip-de"))
        tasks = mteb.get_tasks(["XM3600T2IRetrieval"], languages=["deu"])
        mteb.evaluate(model, tasks)
        ```
    """

    def __init__(
        self,
        model: CCRModel,
        *,
        name: str | None = None,
        revision: str | None = None,
        language: str | None = None,
        missing: str = "raise",
        remember_pictures: bool = True,
    ) -> None:
        if missing not in ("raise", "base"):
            raise EvaluationError(f"`missing` is {missing!r}; expected 'raise' or 'base'.")
        self.model = model.eval()
        self.language = None if language is None else (model.resolve_language(language) or ENGLISH)
        self.missing = missing
        self.remember_pictures = remember_pictures
        self._name = name
        self._revision = revision
        self._seen: dict[bytes, Tensor] = {}

    # ------------------------------------------------------------------------------------------------- MTEB's protocol

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Vectors of a data loader's rows.

        Args:
            inputs: Batches with `text`, `image`, or both, whose vectors are then added.
            task_metadata: Says which languages a subset holds.
            hf_split: Not used.
            hf_subset: Subset of the task: a language, or `default`.
            prompt_type: Not used: captions have no prompts.
            kwargs: Not used: batches come ready.

        Returns:
            L2-normalised vectors. A row with an empty text and no picture is all zeros, and counted in the log. (N, d)

        Raises:
            LanguageError: If the model has no adapter for the subset's language, or the subset holds several.
            EvaluationError: If there is neither text nor image.
        """
        found, empty = [], 0
        for batch in inputs:
            if "text" not in batch and "image" not in batch:
                raise EvaluationError(
                    f"{task_metadata.name} gives {', '.join(sorted(batch))}; this model encodes text and image."
                )
            parts = []
            code = self._code(task_metadata, hf_subset, text="text" in batch)
            if "text" in batch:
                vectors, without = self._captions(batch["text"], code)
                parts.append(vectors)
                empty += without
            if "image" in batch:
                parts.append(self._pictures(batch["image"], code))
            found.append(parts[0] if len(parts) == 1 else F.normalize(parts[0] + parts[1], dim=-1))
        if empty:
            logger.warning("%s, %s: %d empty texts have no vector", task_metadata.name, hf_subset, empty)
        dim = self.model.dim_of(self._code(task_metadata, hf_subset, text=False))
        vectors = torch.cat(found) if found else torch.empty((0, dim))
        array: np.ndarray = vectors.numpy()
        return array

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines of all pairs. (N, d), (M, d) -> (N, M)"""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines of pairs. (N, d), (N, d) -> (N,)"""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(dim=-1)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """What MTEB files results under.

        Raises:
            MissingExtraError: If MTEB is not installed.
        """
        meta = require("mteb.models.model_meta", extra="mteb")
        model = self.model
        base = model.config.base_model_name_or_path or type(model.base).__name__
        named = "-".join(sorted(model.languages)) or "base"
        return meta.ModelMeta(
            loader=None,
            name=self._name or f"ccr-adapters/{Path(base).name}-{named}",
            revision=self._revision or model.base_sha256()[:40],
            release_date=None,
            languages=_language_scripts([ENGLISH, *model.languages]),
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            memory_usage_mb=None,
            max_tokens=None if model.processor is None else model.processor.base_max_length,
            embed_dim=model.embedding_dim,
            license=None,
            open_weights=True,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch", "Transformers"],
            similarity_fn_name="cosine",
            use_instructions=False,
            training_datasets=None,
            adapted_from=base if model.languages and not Path(base).is_absolute() else None,
            modalities=[kind for kind in ("text", "image") if kind in model.modalities],
        )

    # ------------------------------------------------------------------------------------------------------- languages

    def _code(self, task: Any, subset: str, *, text: bool) -> str | None:
        """The adapter for a subset; `None` for the base."""
        if self.language is not None:
            return self.model.resolve_language(self.language)
        if not text and not len(self.model.heads):
            return None  # pictures are the same for all
        # of a parallel corpus each column is its own subset, which no table lists
        asked = task.hf_subsets_to_langscripts.get(subset) or [subset]
        codes = {self._adapter(each, f"{task.name}, {subset}") for each in asked}
        if len(codes) > 1:
            raise LanguageError(
                f"{task.name}, {subset}: texts in {' and '.join(asked)} are not told apart, so no adapter can be chosen. Take "
                "subsets of one language, or say which: MTEBModel(model, language=...)."
            )
        return codes.pop()

    def _adapter(self, asked: str, where: str) -> str | None:
        """The adapter for a language as MTEB writes it, `deu-Latn`."""
        primary, _, script = asked.replace("_", "-").partition("-")
        alike = codes_of(self.model.languages, primary)
        same = [code for code in alike if script and code.lower().endswith(f"-{script.lower()}")]
        chosen = same or alike
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            raise LanguageError(
                f"{where}: '{asked}' may be {' or '.join(chosen)}. Say which: MTEBModel(model, language=...)."
            )
        if primary_language(primary) == ENGLISH:
            return None
        if self.missing == "raise":
            raise LanguageError(
                f"{where}: there is no adapter for '{asked}', but for {', '.join(self.model.languages) or 'none'}. Leave the "
                "subset out (mteb.get_task(..., languages=[...])), or let the base try: MTEBModel(model, missing='base')."
            )
        logger.warning("%s: no adapter for '%s': the base encodes it", where, asked)
        return None

    # --------------------------------------------------------------------------------------------------------- vectors

    def _captions(self, texts: Sequence[str], code: str | None) -> tuple[Tensor, int]:
        """Vectors of captions, and how many are empty."""
        said = [row for row, text in enumerate(texts) if text and text.strip()]
        vectors = torch.zeros((len(texts), self.model.dim_of(code)))
        if said:
            chosen = [texts[row] for row in said]
            encoded = self.model.encode_text(chosen, code, batch_size=len(chosen), show_progress=False)
            vectors[said] = encoded.float().cpu()
        return vectors, len(texts) - len(said)

    def _pictures(self, pictures: Sequence[Any], code: str | None) -> Tensor:
        """Vectors of pictures in the space of a language; those that were seen before are remembered."""
        keys = [_key(picture) for picture in pictures]
        known = self._seen if self.remember_pictures else {}
        new = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in known}
        if new:
            processor: Any = self.model.processor
            inputs = processor.picture_inputs(list(new.values())).to(self.model.device, self.model.dtype)
            with torch.inference_mode():
                raw = pooler_output(self.model.get_image_features(**inputs)).float().cpu()
            known |= dict(zip(new, raw, strict=True))
        vectors = torch.stack([known[key] for key in keys])  # (B, d), as long as the tower makes them
        return self.model.map_visual(vectors, code).float().cpu()


def _key(picture: Any) -> bytes:
    """What tells a picture from others: its values."""
    values = np.asarray(picture)
    return hashlib.sha256(repr((values.shape, values.dtype.str)).encode() + values.tobytes()).digest()


def _unit(vectors: Any) -> Tensor:
    """Vectors at length 1; a single one counts as one row."""
    return F.normalize(torch.atleast_2d(torch.as_tensor(np.asarray(vectors)).float()), dim=-1)


def _language_scripts(codes: Sequence[str]) -> list[str] | None:
    """Codes as MTEB writes them, `deu-Latn`; `None` if the installed MTEB does not know the script of one."""
    folder = Path(require("mteb.languages.iso_mappings", extra="mteb").path_to_lang_codes).parent
    files = [folder / name for name in ("iso_639_1_to_3.json", "iso_639_3_to_default_script.json")]
    if not all(file.is_file() for file in files):
        return None
    long, scripts = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    found = []
    for code in dict.fromkeys(code for code in codes if code not in BASE_LANGUAGES or code == ENGLISH):
        primary = primary_language(code)
        name = long.get(primary, primary)
        named = next((part for part in code.split("-")[1:] if len(part) == 4), scripts.get(name))
        if named is None:
            return None
        found.append(f"{name}-{named}")
    return found
