"""`CCRProcessor`: the base's tokenizer and image processor, and one tokenizer per language that has its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor, BatchFeature

from ccr_adapters.configuration import BASE_LANGUAGES, LanguageConfig
from ccr_adapters.dasd.families import anatomy_of, caption_limit
from ccr_adapters.errors import AdapterError, ConfigError, ImageError, LanguageError, first_line
from ccr_adapters.processing.bases import NO_REMOTE_CODE, read_base_tokenizer, read_tokenizer, resolve_base
from ccr_adapters.processing.captions import (
    TokenizedCaptions,
    check_captions,
    end_token_id,
    pad_ids,
    pad_token_id,
    token_ids,
)
from ccr_adapters.processing.pictures import as_list, check_pictures, load_picture
from ccr_adapters.processing.repository import (
    CONFIG,
    TOKENIZER_FILES,
    at_commit,
    hub_arguments,
    inside,
    is_repository_id,
    read_config,
    snapshot,
)

# A picture whose sides differ more is a strip: the short side is brought to the tower's size, and the long one with it.
_STRIP = 100
_WINDOW = 4096  # captions of a column that are in memory at a time
IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class CCRProcessor:
    """Turns captions of any of the model's languages, and pictures, into tensors.

    Args:
        tokenizer: The base's tokenizer.
        image_processor: The base's image processor; `None` for a text encoder alone.
        base_max_length: Longest caption that the base takes, in tokens.
        pad_to_max_length: The base reads captions at a fixed length (SigLIP).
        lowercase: The base was trained on lower-case captions (SigLIP 2), whatever its tokenizer does with capitals.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_processor: Any = None,
        *,
        base_max_length: int = 77,
        pad_to_max_length: bool = False,
        lowercase: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.base_max_length = base_max_length
        self.pad_to_max_length = pad_to_max_length
        self.lowercase = lowercase
        self.languages: dict[str, tuple[Any, int]] = {}

    def add_language(self, code: str, tokenizer: Any | None, max_length: int) -> None:
        """Register a language; `tokenizer=None` shares the base's."""
        if tokenizer is not None:
            end_token_id(tokenizer)  # refused here rather than at the first caption
        self.languages[code] = (tokenizer, max_length)

    def remove_language(self, code: str) -> None:
        """Forget a language."""
        self.languages.pop(code, None)

    def tokenizer_for(self, language: str | None) -> Any:
        """The tokenizer that captions of a language go through."""
        return self._entry(language)[0]

    def _entry(self, language: str | None) -> tuple[Any, int, bool]:
        if language is None or (language in BASE_LANGUAGES and language not in self.languages):
            return self.tokenizer, self.base_max_length, self.pad_to_max_length
        if language not in self.languages:
            there = ", ".join(sorted(self.languages)) or "none"
            raise LanguageError(
                f"Language {language!r} has no adapter here. Loaded: {there}. Load one with load_language(...), or pass "
                "language=None for the base."
            )
        tokenizer, max_length = self.languages[language]
        if tokenizer is None:
            return self.tokenizer, min(max_length, self.base_max_length), self.pad_to_max_length
        return tokenizer, max_length, False

    def settings_for(self, language: str | None) -> tuple[int, bool, bool]:
        """What else decides the ids of a caption: its longest length, whether it is padded to that, and read in lower case."""
        tokenizer, max_length, padded = self._entry(language)
        return max_length, padded, self.lowercase and tokenizer is self.tokenizer

    def reads_padding(self, language: str | None) -> bool:
        """Whether captions of a language go through a base that wants one length, and reads the padding too (SigLIP)."""
        return self._entry(language)[2]

    def token_ids(self, captions: Sequence[str], language: str | None = None) -> list[list[int]]:
        """Ids of each caption, end token included, unpadded.

        Raises:
            CaptionError: If a caption is empty or no text.
            LanguageError: If the language is not there.
        """
        tokenizer, max_length, _ = self._entry(language)
        captions = check_captions(captions)
        if self.lowercase and tokenizer is self.tokenizer:
            captions = [caption.lower() for caption in captions]
        return token_ids(captions, tokenizer, max_length)

    def token_rows(self, captions: Sequence[str], language: str | None = None) -> Iterator[list[int]]:
        """As `token_ids`, for a column that lies on disk: never more than a few thousand captions in memory."""
        for start in range(0, len(captions), _WINDOW):
            yield from self.token_ids(list(captions[start : start + _WINDOW]), language)

    def lengths(self, captions: Sequence[str], language: str | None = None) -> np.ndarray:
        """Length of each caption in tokens. (N,)"""
        return np.fromiter(map(len, self.token_rows(captions, language)), dtype=np.int32, count=len(captions))

    def pad(self, rows: Sequence[Sequence[int]], language: str | None = None) -> TokenizedCaptions:
        """Stack the rows of `token_ids`."""
        tokenizer, _, pad_to_max = self._entry(language)
        # at the base's length even where a language allows less: padding counts in a base that wants it
        return pad_ids(rows, pad_token_id(tokenizer), self.base_max_length if pad_to_max else None)

    def picture_inputs(self, pictures: Sequence[Any]) -> BatchFeature:
        """Pictures to all that the image tower takes: SigLIP 2 at native resolution reads masks and shapes as well.

        Raises:
            ImageError: If the base has no image tower, or a picture is more than 100 times as long as wide.
        """
        if self.image_processor is None:
            raise ImageError("This model has no image tower; it takes precomputed visual vectors instead of pictures.")
        loaded = [_of_a_shape(load_picture(picture)) for picture in pictures]
        inputs: BatchFeature = self.image_processor(images=loaded, return_tensors="pt")
        return inputs

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        *,
        language: str | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Prepare captions and pictures, as processors of transformers do.

        Args:
            text: One caption or many, all of one language.
            images: One picture or many: paths, PIL images, arrays, tensors.
            language: Language of the captions; `None` for the base's own. The model's default is its active language: name it
                there too.
            return_tensors: Only `"pt"`.

        Returns:
            `input_ids` and `attention_mask` for text (and `pooled_at` for a language with its own tokenizer),
            `pixel_values` for images.
        """
        if return_tensors != "pt":
            raise ConfigError(f"`return_tensors` is {return_tensors!r}; only 'pt' is made here.")
        if text is None and images is None:
            raise ConfigError("Nothing to process: pass `text`, `images`, or both.")
        data: dict[str, Any] = {}
        if text is not None:
            captions = [text] if isinstance(text, str) else list(text)
            batch = self.pad(self.token_ids(captions, language), language)
            data["input_ids"] = batch.input_ids
            if not self._entry(language)[2]:
                data["attention_mask"] = batch.attention_mask
            if language is not None and self.languages.get(language, (None,))[0] is not None:
                data["pooled_at"] = batch.pooled_at
        if images is not None:
            pictures = as_list(images)
            check_pictures(pictures)
            data.update(self.picture_inputs(pictures))
        return BatchFeature(data)

    # ------------------------------------------------------------------------------------------------ load and save

    def save_pretrained(self, save_directory: str | Path, language: str | None = None, **_: Any) -> list[str]:
        """Write the tokenizers of the languages; those of the base stay with the base.

        Args:
            save_directory: Where to. Several languages get a folder each, one language lies at the top.
            language: Only this one.
        """
        folder = Path(save_directory)
        if language:
            self._entry(language)  # refuses one that is not there
        chosen = {language: self.languages[language]} if language else self.languages
        written: list[str] = []
        for code, (tokenizer, _length) in chosen.items():
            if tokenizer is not None:
                target = folder / code if len(chosen) > 1 else folder
                target.mkdir(parents=True, exist_ok=True)
                written.extend(tokenizer.save_pretrained(str(target)))
        return written

    @classmethod
    def for_base(cls, base: str | Path, base_config: Any, **kwargs: Any) -> CCRProcessor:
        """The processor of a bare base.

        Args:
            base: Repository or folder.
            base_config: Its configuration.
            kwargs: What `from_pretrained` of transformers takes (`revision`, `token`, `local_files_only`, ...).

        Raises:
            AdapterError: If its tokenizer or its image processor is not there, or cannot be read.
        """
        tokenizer = read_base_tokenizer(base, **kwargs)
        image_processor = None
        if hasattr(base_config, "vision_config"):
            try:
                image_processor = AutoImageProcessor.from_pretrained(str(base), **{**NO_REMOTE_CODE, **kwargs})
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise AdapterError(
                    f"The image processor of the base '{base}' cannot be read ({first_line(error)}). Save it beside the model, "
                    "with image_processor.save_pretrained(folder), or pass `processor=`."
                ) from error
        anatomy = anatomy_of(base_config)
        longest = caption_limit(base_config)
        if not (anatomy and anatomy.fixed_length):
            # a tokenizer may say that its encoder was trained on less than it has room for; one that does not, a lot
            longest = min(longest, int(getattr(tokenizer, "model_max_length", None) or longest))
        return cls(
            tokenizer,
            image_processor,
            base_max_length=longest,
            pad_to_max_length=anatomy is not None and anatomy.fixed_length,
            lowercase=anatomy is not None and anatomy.lowercase,
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, languages: Iterable[str] | None = None, **kwargs: Any
    ) -> CCRProcessor:
        """The processor of an adapter repository: its tokenizers, and the base's parts from the base.

        Args:
            pretrained_model_name_or_path: Repository or folder.
            languages: Only these; default all.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Raises:
            AdapterError: If it is no adapter repository.
            HubError: If it cannot be downloaded, or a file is not what the repository says.
            LanguageError: If a language is not there.
        """
        hub, folder = hub_arguments(kwargs), Path(pretrained_model_name_or_path)
        remote = not folder.is_dir()
        if remote:
            if not is_repository_id(folder):
                raise AdapterError(f"'{folder}' is neither a folder here nor the id of a repository (owner/name).")
            folder = snapshot(str(pretrained_model_name_or_path), hub, [CONFIG])
        config = read_config(folder)
        if config.base_model_name_or_path is None or config.base_config is None:
            raise ConfigError(f"'{folder}' does not say what its base is (`base_model_name_or_path` in config.json).")
        chosen = list(config.languages) if languages is None else _codes(languages, config.languages)
        if remote:
            places = {inside(Path(), config.languages[code].folder) for code in chosen}
            names = [(place / name).as_posix() for place in places for name in TOKENIZER_FILES]
            # of a base that is carried along; the name of any other leads nowhere in the repository
            base = Path(config.base_model_name_or_path)
            names += [(base / name).as_posix() for name in (CONFIG, *IMAGE_PROCESSOR_FILES, *TOKENIZER_FILES)]
            folder = snapshot(
                str(pretrained_model_name_or_path), at_commit(hub, folder), names, told=hub.get("revision")
            )
        base_config = config.described_base()
        elsewhere = {key: value for key, value in hub.items() if key != "revision"}
        processor = cls.for_base(
            resolve_base(config.base_model_name_or_path, folder),
            base_config,
            revision=config.base_revision or "main",
            **elsewhere,
        )
        for code in chosen:
            processor.load_language(code, config.languages[code], folder)
        return processor

    def load_language(self, code: str, language: LanguageConfig, folder: Path) -> None:
        """Load one language's tokenizer from an adapter folder."""
        tokenizer = None
        if language.vocabulary is not None:
            tokenizer = read_tokenizer(inside(folder, language.folder))
        self.add_language(code, tokenizer, language.max_length)


def _codes(languages: Iterable[str], there: dict[str, Any]) -> list[str]:
    codes = [languages] if isinstance(languages, str) else list(dict.fromkeys(languages))
    for code in codes:
        if code not in there:
            raise LanguageError(f"There is no language {code!r}. There are: {', '.join(sorted(there)) or 'none'}.")
    return codes


def _of_a_shape(picture: Any) -> Any:
    """Refuse a strip: a pixel wide and some thousand long, it is a small file, and takes gigabytes once it is enlarged."""
    width, height = picture.size if isinstance(picture, Image.Image) else (1, 1)
    if max(width, height) > _STRIP * min(width, height):
        raise ImageError(
            f"A picture of {width} x {height} pixels is a strip; expected sides up to {_STRIP} times as long."
        )
    return picture
