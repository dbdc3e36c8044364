"""`Translator`: any sequence-to-sequence model of transformers, told its languages, fed captions batched by length."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from huggingface_hub import try_to_load_from_cache
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from ccr_adapters.errors import CaptionError, MissingExtraError, TranslationError, first_line
from ccr_adapters.modeling.fingerprint import weights_sha256
from ccr_adapters.modeling.memory import ran_out
from ccr_adapters.processing.bases import NO_REMOTE_CODE
from ccr_adapters.processing.devices import default_device
from ccr_adapters.translation.codes import resolve_codes

logger = logging.getLogger(__name__)

BATCH_SIZE = 32
NUM_BEAMS = 4
MAX_NEW_TOKENS = 128
BATCH_TOKENS = 4096  # padded source tokens of one batch: few long captions take the place of many short ones
WINDOW = 64  # batches that are sorted by length together
LONGEST_INPUT = 1024  # for models with relative positions, which know no limit of their own


class Translator:
    """A translation model for one pair of languages.

    What could not be translated well is counted in `counts`: `captions`, `truncated` (inputs longer than the model
    takes), `unfinished` (outputs that reached `max_new_tokens`), `retried` (empty at first) and `empty` (after that too).

    Args:
        model: An encoder-decoder model of transformers.
        tokenizer: Its tokenizer.
        source: Language of the captions, BCP-47.
        target: Language to translate into, BCP-47.
        name: What the model is called in data sets and reports.
        revision: Commit of the repository that it came from.

    Raises:
        LanguageError: If the model does not know a language.
        TranslationError: If the model is no encoder-decoder model.

    Example:
        ```python
        translator = Translator.from_pretrained("Helsinki-NLP/opus-mt-en-de", source="en", target="de")
        translator.translate(["two dogs run through the snow"])
        ```
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        source: str = "en",
        target: str = "de",
        *,
        name: str | None = None,
        revision: str | None = None,
    ) -> None:
        if not getattr(model.config, "is_encoder_decoder", False):
            raise TranslationError(
                f"{type(model).__name__} is no encoder-decoder model; translation needs one (Marian, NLLB, M2M100, MADLAD)."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.source = source
        self.target = target
        self.codes = resolve_codes(model.config, tokenizer, source, target)
        self.name = name or Path(str(getattr(model.config, "_name_or_path", "") or type(model).__name__)).name
        self.revision = revision
        self.counts: Counter[str] = Counter()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        source: str = "en",
        target: str = "de",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
    ) -> Translator:
        """Load a model from the Hub or a folder, from safetensors alone.

        Args:
            name_or_path: Repository or folder.
            source: Language of the captions.
            target: Language to translate into.
            device: Default: the accelerator if there is one.
            dtype: Default: bfloat16 on an accelerator, float32 on a CPU.
            revision: Branch, tag or commit.

        Raises:
            TranslationError: If there is no such model, it has no safetensors, or it does not translate.
            MissingExtraError: If its tokenizer needs sentencepiece and that is not installed.
        """
        try:
            chosen = torch.device(device or default_device())
        except RuntimeError as error:
            raise TranslationError(f"There is no device '{device}'; expected cpu, cuda or cuda:1.") from error
        kind = dtype or (torch.float32 if chosen.type == "cpu" else torch.bfloat16)
        path = str(name_or_path)
        try:
            model = AutoModelForSeq2SeqLM.from_pretrained(
                path, revision=revision, dtype=kind, use_safetensors=True, **NO_REMOTE_CODE
            )
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, **NO_REMOTE_CODE)
        except ImportError as error:
            raise MissingExtraError(
                f"The tokenizer of '{path}' needs sentencepiece: pip install 'ccr-adapters[translation]'"
            ) from error
        except OSError as error:
            reason = first_line(error)
            raise TranslationError(
                f"The translator '{path}' cannot be loaded: {reason} Only safetensors are read; where a repository has none, "
                "there may be a converted revision, for example revision='refs/pr/1' (in commands: NAME@refs/pr/1)."
            ) from error
        except (ValueError, KeyError) as error:
            reason = first_line(error)
            raise TranslationError(f"'{path}' is no translation model of transformers: {reason}") from error
        name = Path(path).resolve().name if Path(path).is_dir() else path
        return cls(model.to(chosen), tokenizer, source, target, name=name, revision=commit_of(path, revision))

    def reversed(self) -> Translator:
        """The same model, the other way round, for back-translation with a model of many languages."""
        twin = Translator(self.model, self.tokenizer, self.target, self.source, name=self.name, revision=self.revision)
        if "_hashes" in self.__dict__:
            twin.__dict__["_hashes"] = self._hashes
        return twin

    @cached_property
    def _hashes(self) -> dict[str, str]:
        vocabulary = json.dumps(sorted(self.tokenizer.get_vocab().items())).encode()
        return {"weights": weights_sha256(self.model), "tokenizer": hashlib.sha256(vocabulary).hexdigest()}

    def identity(self) -> dict[str, Any]:
        """What makes this translator and no other: name, revision, hashes, languages, codes, precision."""
        return {
            "name": self.name,
            "revision": self.revision,
            "source": self.source,
            "target": self.target,
            "codes": [self.codes.source, self.codes.target],
            "prefix": self.codes.prefix,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **self._hashes,
        }

    @property
    def longest(self) -> int:
        """Most tokens of an input."""
        limits = [getattr(self.model.config, "max_position_embeddings", None), self.tokenizer.model_max_length]
        return min([LONGEST_INPUT, *(int(limit) for limit in limits if limit)])

    def translate(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = BATCH_SIZE,
        num_beams: int = NUM_BEAMS,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> list[str]:
        """Translate captions.

        A caption's translation does not depend on what else is in its batch, up to the rounding of padded sums.

        Args:
            texts: Captions, none empty.
            batch_size: Most captions of one batch; long ones get smaller batches.
            num_beams: Beams of the search; 1 is greedy.
            max_new_tokens: Longest translation in tokens.

        Returns:
            One translation a caption, in the same order; `""` where the model says nothing even when asked again.

        Raises:
            CaptionError: If a caption is empty or no text.
        """
        found = [""] * len(texts)
        for rows, translations in self.batches(
            texts, batch_size=batch_size, num_beams=num_beams, max_new_tokens=max_new_tokens
        ):
            for row, translation in zip(rows, translations, strict=True):
                found[row] = translation
        return found

    def batches(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = BATCH_SIZE,
        num_beams: int = NUM_BEAMS,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> Iterator[tuple[list[int], list[str]]]:
        """Translate batch by batch: yields the rows of each batch with their translations, as soon as they are there."""
        for name, value in (("batch_size", batch_size), ("num_beams", num_beams), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise TranslationError(f"`{name}` is {value}; expected 1 or more.")
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise CaptionError(f"Caption {row} is empty or no text: {text!r}.")
        for start in range(0, len(texts), batch_size * WINDOW):
            inputs, cut = self._encode(texts[start : start + batch_size * WINDOW])
            # longest first: what does not fit into memory shows at once
            order = sorted(range(len(inputs)), key=lambda row: -len(inputs[row]))
            for rows in _budgeted(order, inputs, batch_size):
                translations = self._translate([inputs[row] for row in rows], num_beams, max_new_tokens)
                self.counts["captions"] += len(rows)
                self.counts["truncated"] += len(cut.intersection(rows))
                yield [start + row for row in rows], translations

    def _encode(self, texts: Sequence[str]) -> tuple[list[list[int]], set[int]]:
        """Token ids with the model's language codes, and the rows that were too long and are cut."""
        if self.codes.source:
            self.tokenizer.src_lang = self.codes.source
        # line breaks are for layout; models end a sentence there
        asked = [self.codes.prefix + " ".join(text.split()) for text in texts]
        inputs: list[list[int]] = self.tokenizer(asked, truncation=True, max_length=self.longest)["input_ids"]
        full = [row for row, ids in enumerate(inputs) if len(ids) == self.longest]
        cut = {row for row in full if len(self.tokenizer(asked[row], verbose=False)["input_ids"]) > self.longest}
        if cut and not self.counts["truncated"]:
            logger.warning(
                "Captions longer than the %d tokens that %s takes are cut there; the summary counts them.",
                self.longest,
                self.name,
            )
        return inputs, cut

    def _translate(self, inputs: list[list[int]], num_beams: int, max_new_tokens: int) -> list[str]:
        translations, cut = self._in_memory(inputs, num_beams, max_new_tokens, least=0)
        empty = [row for row, text in enumerate(translations) if not text]
        if empty:
            self.counts["retried"] += len(empty)
            again, cut_again = self._in_memory([inputs[row] for row in empty], num_beams, max_new_tokens, least=2)
            for row, text, unfinished in zip(empty, again, cut_again, strict=True):
                translations[row], cut[row] = text, unfinished
            self.counts["empty"] += sum(not text for text in again)
        self.counts["unfinished"] += sum(cut)
        return translations

    def _in_memory(
        self, inputs: list[list[int]], num_beams: int, max_new_tokens: int, *, least: int
    ) -> tuple[list[str], list[bool]]:
        """One batch, in halves where there is no memory for it; arguments as in `_generate`.

        Raises:
            TranslationError: If there is none for one caption.
        """
        try:
            return self._generate(inputs, num_beams, max_new_tokens, least=least)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            if len(inputs) == 1:
                raise TranslationError(
                    f"There is not enough memory to translate a caption of {len(inputs[0])} tokens with {num_beams} beams. Lower "
                    "--num-beams or --max-new-tokens; what is translated already is kept."
                ) from error
        # outside of the handler, which holds on to the tensors of the pass that failed
        clear_device_cache(garbage_collection=True)
        half = len(inputs) // 2
        logger.warning("Out of memory with %d captions; they are translated %d at a time.", len(inputs), half)
        parts = [
            self._in_memory(part, num_beams, max_new_tokens, least=least) for part in (inputs[:half], inputs[half:])
        ]
        return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]

    @torch.inference_mode()
    def _generate(
        self, inputs: list[list[int]], num_beams: int, max_new_tokens: int, *, least: int
    ) -> tuple[list[str], list[bool]]:
        """One batch through the model.

        Args:
            inputs: Token ids. B lists
            num_beams: Beams.
            max_new_tokens: Longest output.
            least: Tokens before which a translation may not end, its language code not counted.

        Returns:
            The translations, and which of them were cut off.
        """
        model = self.model
        pad = self.tokenizer.pad_token_id
        width = max(map(len, inputs))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in inputs], device=model.device)  # (B, L)
        mask = torch.tensor(
            [[1] * len(row) + [0] * (width - len(row)) for row in inputs], device=model.device
        )  # (B, L)
        settings = copy.deepcopy(model.generation_config)
        positions = getattr(model.config, "max_position_embeddings", None) or max_new_tokens + 1
        # the start token, and then the new ones
        settings.update(
            max_length=min(max_new_tokens + 1, positions),
            min_length=1 + least + (self.codes.forced_bos is not None) if least else 0,
            max_new_tokens=None,
            min_new_tokens=None,
            num_beams=num_beams,
            num_return_sequences=1,
            do_sample=False,
        )
        if least:
            # asked again: say something, and no other language's code
            settings.suppress_tokens = sorted(self.codes.silent - {self.codes.forced_bos}) or None
        if self.codes.forced_bos is not None:
            settings.forced_bos_token_id = self.codes.forced_bos
        output: Tensor = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)  # (B, T)
        longest = output.shape[1] == settings.max_length
        cut = [longest and last != pad for last in output[:, -1].tolist()]
        said = [[token for token in row if token not in self.codes.silent] for row in output.tolist()]
        # Marian's tokenizer would put pieces of the target language together with the source's model
        options = {"use_source_tokenizer": False} if hasattr(self.tokenizer, "spm_target") else {}
        texts = self.tokenizer.batch_decode(
            said, skip_special_tokens=True, clean_up_tokenization_spaces=False, **options
        )
        return [re.sub(r"\s+", " ", text).strip() for text in texts], cut


def _budgeted(order: list[int], inputs: list[list[int]], batch_size: int) -> Iterator[list[int]]:
    """Cut rows, longest first, into batches of at most `batch_size` captions and `BATCH_TOKENS` padded tokens."""
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) == batch_size or len(inputs[rows[0]]) * (len(rows) + 1) > BATCH_TOKENS):
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit of a repository that was loaded just now, as the cache calls it; of a folder nothing."""
    if Path(name).is_dir():
        return None
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else revision
