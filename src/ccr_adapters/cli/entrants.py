"""The models that `evaluate` scores: adapters and bare bases, what each is called, and in which languages it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from ccr_adapters.data.benchmarks.languages import codes_of, primary_language
from ccr_adapters.errors import ConfigError, LanguageError
from ccr_adapters.evaluation.records import BASE
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.download import local_folder
from ccr_adapters.modeling.layout import LANGUAGE_FILES
from ccr_adapters.modeling.registry import is_base
from ccr_adapters.processing.bases import resolve_base
from ccr_adapters.processing.devices import default_device
from ccr_adapters.processing.repository import CONFIG, file_hash, read_config

ENGLISH = "en"
# what transformers reads weights from
_WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Entrant:
    """A model that is scored, before it is loaded.

    Attributes:
        place: Folder or repository.
        label: What tables and files call it; for a base its name.
        base: Name of its base.
        adapter: Whether it is an adapter; else the bare base.
        languages: Codes that it has adapters for.
        fingerprint: Hash of its files, by which a finished result is known to be of this very model.
        base_fingerprint: Of its base, where its configuration says so.
        base_place: Folder of its base, where that lies here.
    """

    place: str
    label: str
    base: str
    adapter: bool
    languages: tuple[str, ...]
    fingerprint: str
    base_fingerprint: str
    base_place: Path | None = None

    @property
    def pretrained(self) -> str:
        """The value of `pretrained` in its results."""
        return self.label if self.adapter else BASE

    def load(self, device: str | None = None) -> CCRModel:
        """The model, ready to encode.

        Raises:
            AdapterError: If it cannot be loaded.
        """
        model = CCRModel.from_pretrained(self.place)
        place: Any = device or default_device()
        model.eval().to(place)
        return model

    def speaks(self, language: str) -> str | None:
        """The adapter that captions of a language are encoded with; `None` for none.

        Args:
            language: As the user spells it.

        Raises:
            LanguageError: If several could be meant.
        """
        if language in self.languages:
            return language
        alike = codes_of(self.languages, language)
        if len(alike) > 1:
            raise LanguageError(
                f"'{self.label}' has {' and '.join(alike)}; which of them is '{language}'? Name it as the adapter does."
            )
        return alike[0] if alike else None

    def answers(self, language: str) -> bool:
        """Whether it is scored in a language: it has an adapter, it is a base, or the captions are the base's own."""
        return not self.adapter or self.speaks(language) is not None or primary_language(language) == ENGLISH


def find_entrants(models: Sequence[str]) -> list[Entrant]:
    """Look at the models, without loading them.

    Args:
        models: Folders, repositories or `tiny_clip`, each as it is or as `NAME=PLACE`.

    Raises:
        AdapterError: If one is neither an adapter nor a base.
        ConfigError: If two have one name.
    """
    found = [_find(text) for text in models]
    # a base that is scored itself is called the same beside its adapters
    bare = {entrant.base_place: entrant.label for entrant in found if not entrant.adapter and entrant.base_place}
    found = [replace(e, base=bare[e.base_place]) if e.adapter and e.base_place in bare else e for e in found]
    for entrant in found:
        others = [other for other in found if other is not entrant and other.label == entrant.label]
        if others:
            raise ConfigError(
                f"'{entrant.place}' and '{others[0].place}' are both called '{entrant.label}'. Name them: "
                f"a={entrant.place} b={others[0].place}."
            )
    return found


def check_languages(entrants: Iterable[Entrant], languages: Sequence[str], *, before: bool) -> None:
    """Refuse a language that no model would be scored in.

    Raises:
        LanguageError: Naming it, and the languages that there are.
    """
    there = list(entrants)
    for language in languages:
        if not before and not any(entrant.answers(language) for entrant in there):
            has = sorted({code for entrant in there for code in entrant.languages})
            raise LanguageError(
                f"No model has an adapter for '{language}'; there is {', '.join(has)}. With --before the base is scored too."
            )


def spoken_languages(entrants: Iterable[Entrant]) -> list[str]:
    """All languages that the models have adapters for.

    Raises:
        LanguageError: If there is none, and so nobody said which to ask.
    """
    found = list(dict.fromkeys(code for entrant in entrants for code in entrant.languages))
    if not found:
        raise LanguageError("A base alone does not say which languages to ask: name them with --languages de,fr.")
    return found


def before_of(entrants: Iterable[Entrant]) -> dict[str, Entrant]:
    """The bare base of each adapter, to be scored through that adapter's model, by the adapter's label.

    A base is scored once, however many adapters share it.
    """
    found: dict[str, Entrant] = {}
    there = list(entrants)
    taken = {entrant.label for entrant in there if not entrant.adapter}
    for entrant in there:
        if entrant.adapter and entrant.base not in taken:
            taken.add(entrant.base)
            base = entrant.base_fingerprint
            found[entrant.label] = Entrant(entrant.place, entrant.base, entrant.base, False, (), base, base)
    return found


def _find(text: str) -> Entrant:
    name, mark, place = text.partition("=")
    if not mark or Path(text).is_dir():
        name, place = "", text
    elif not name or not place:
        raise ConfigError(f"'{text}' is no model: write a folder or a repository, or NAME=PLACE.")
    label = name or _label(place)
    if is_base(place, {}):
        folder = Path(resolve_base(place))
        here = folder.resolve() if folder.is_dir() else None
        fingerprint = _fingerprint(folder) if here else _commit(place)
        return Entrant(place, label, _label(place), False, (), fingerprint, fingerprint, here)
    folder = local_folder(place, {})
    config = read_config(folder)
    base = config.base_model_name_or_path or "unnamed base"
    called, own = _label(base), config.base_sha256 or base
    beside = (folder / base).resolve()  # of an absolute path, that
    if config.base_sha256 and beside.is_dir() and not Path(base).is_absolute():
        # `base` or `../base`, as any adapter may call one of its own
        called = f"{beside.name}-{config.base_sha256[:8]}"
    here = beside if beside.is_dir() else None
    return Entrant(place, label, called, True, tuple(config.languages), _fingerprint(folder), own, here)


def _label(place: str) -> str:
    """A repository's name as it is, and of a path its last part that says more than 'adapter' or 'training/adapter'."""
    path = Path(place)
    if not path.is_dir() and not path.is_absolute():
        return place
    parts = path.resolve().parts
    # `train` leaves RUN/adapter, `add-language` RUN/training/adapter
    for silent in (("training", "adapter"), ("adapter",)):
        if parts[-len(silent) :] == silent and len(parts) > len(silent) + 1:
            return parts[-len(silent) - 1]
    return parts[-1]


def _fingerprint(folder: Path) -> str:
    """Hash of what a model is made of; its card and what was measured of it may change."""
    digest = hashlib.sha256()
    names = {CONFIG, "preprocessor_config.json", *LANGUAGE_FILES}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.name in names or file.suffix in _WEIGHTS:
            digest.update(f"{file.relative_to(folder).as_posix()}:{file_hash(file)}".encode())
    return digest.hexdigest()


def _commit(place: str) -> str:
    """A repository at its commit, which its configuration was read from just now."""
    found = try_to_load_from_cache(place, "config.json")
    return f"{place}@{Path(found).parent.name}" if isinstance(found, str) else place
