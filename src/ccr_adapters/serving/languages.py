"""The languages that can be asked for: known from the configurations of their repositories, loaded when they are needed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccr_adapters.configuration import BASE_LANGUAGES
from ccr_adapters.errors import AdapterError, CCRError, ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, read_adapter_config
from ccr_adapters.modeling.download import local_folder
from ccr_adapters.processing.repository import inside, read_config

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """A language that can be asked for.

    Attributes:
        code: Its code.
        place: Folder or repository that it is loaded from; `None` for one that was in the model from the beginning.
        method: What kind of adapter it is, in capitals, where that is known before loading.
        own_space: Whether its vectors live in a space of their own, and not in that of the base.
    """

    code: str
    place: str | None
    method: str | None
    own_space: bool


class Languages:
    """The languages of a model, of which those used last are in memory.

    What the model has already stays; others come from `places` and make room for each other. Only `ensure` touches the
    model, so only the thread that owns it may call that.

    Args:
        model: The model.
        places: Folders or repositories of adapters.
        most: How many of those may be loaded at a time.

    Raises:
        AdapterError: If a place has no adapters, or ones for another base.
        ConfigError: If two kinds of adapters would have to stand beside each other.
        LanguageError: If two places have the same language.
    """

    def __init__(self, model: CCRModel, places: Sequence[str] = (), *, most: int = 16) -> None:
        if most < 1:
            raise ConfigError(f"`max_languages` is {most}; expected 1 or more.")
        self._model, self.most = model, most
        self.known: dict[str, Known] = {}
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._here: set[str] = set()
        methods = {code: config.peft_type for code, config in getattr(model.base, "peft_config", {}).items()}
        for code in model.languages:
            own = model.space(code) is not None
            self.known[code] = Known(code, None, _name(methods.get(code)), own)
        sha256 = model.base_sha256() if places else ""
        for place in places:
            self._read(place, sha256)
        kinds = {each.method: each.code for each in self.known.values() if each.method is not None}
        if len(kinds) > 1:
            raise ConfigError(
                f"{' and '.join(f'{code!r} ({kind})' for kind, code in sorted(kinds.items()))} cannot stand beside each other on "
                "one base. Serve them by two servers."
            )

    def _read(self, place: str, sha256: str) -> None:
        """Note the languages of a place, without loading any."""
        folder = local_folder(place, {}, [])
        config = read_config(folder)
        if config.base_sha256 not in (None, sha256):
            raise AdapterError(
                f"'{place}' was trained on another base ('{config.base_model_name_or_path}', sha256 "
                f"{str(config.base_sha256)[:12]}...) than this one (sha256 {sha256[:12]}...). Serve it by a server of its own."
            )
        for code, language in (config.languages or {}).items():
            if code in self.known:
                other = self.known[code].place or "the model"
                raise LanguageError(f"Language {code!r} is in '{other}' and in '{place}'. Name one of them.")
            own = inside(folder, language.folder)
            # of a repository on the Hub only the configuration is here until the language is asked for
            there = (own / ADAPTER_CONFIG).is_file()
            method = _name(read_adapter_config(own).peft_type) if there else None
            self.known[code] = Known(code, place, method, language.head is not None)
            if Path(place).is_dir():
                self._here.add(code)

    @property
    def loaded(self) -> list[str]:
        """Codes of those that are in memory."""
        return [code for code, each in self.known.items() if each.place is None or code in self._loaded]

    def resolve(self, code: str | None) -> str | None:
        """The language that a code means.

        Args:
            code: A code; `"en"` is the base, `None` the only language there is, or the base if there is none.

        Returns:
            The code, or `None` for the base.

        Raises:
            LanguageError: If there is no such language, or none is given and there are several.
        """
        if code is None:
            if len(self.known) > 1:
                raise LanguageError(f"There are several languages ({self._named()}): say which one it is.")
            return next(iter(self.known), None)
        if code in self.known:
            return code
        if code in BASE_LANGUAGES:
            return None
        raise LanguageError(f"There is no language {code!r:.40}. There are: {self._named()}.")

    def _named(self) -> str:
        return ", ".join(sorted({*self.known, "en"}))

    def space(self, code: str | None) -> str | None:
        """Whose space the vectors of a language live in: its own code, or `None` for the base's."""
        return code if code is not None and self.known[code].own_space else None

    def missing(self, codes: Iterable[str | None]) -> list[str]:
        """Those languages whose files may have to be downloaded first."""
        return [
            code for code in dict.fromkeys(codes) if code is not None and self._place(code) and code not in self._here
        ]

    def fetch(self, code: str) -> None:
        """Download the files of a language; in any thread.

        Args:
            code: Its code.

        Raises:
            HubError: If that fails.
        """
        local_folder(self.known[code].place or "", {}, [code])
        self._here.add(code)

    def ensure(self, codes: Iterable[str | None]) -> dict[str, CCRError]:
        """Have languages in memory, at most `most` at a time, in place of those that were not used for longest.

        Args:
            codes: What is about to be encoded.

        Returns:
            What went wrong, by language; the others are there.
        """
        wanted = [code for code in dict.fromkeys(codes) if code is not None and self._place(code)]
        failed: dict[str, CCRError] = {}
        for code in wanted:
            if code in self._loaded:
                self._loaded.move_to_end(code)
        for code in wanted:
            if code in self._loaded:
                continue
            while len(self._loaded) >= self.most:
                self._drop(next(iter(self._loaded)))
            try:
                self._model.load_language(self._place(code) or "", code)
            except CCRError as error:
                logger.error("Language %r cannot be loaded: %s", code, error)
                failed[code] = error
                continue
            self._loaded[code] = None
            logger.info("Language %r was loaded from %s", code, self._place(code))
        return failed

    def _drop(self, code: str) -> None:
        self._model.delete_language(code)
        del self._loaded[code]
        logger.info("Language %r made room", code)

    def _place(self, code: str) -> str | None:
        return self.known[code].place


def _name(method: object) -> str | None:
    """A method of peft by its name, whether it comes as text or as a member of its enumeration."""
    return None if method is None else str(getattr(method, "value", method))
