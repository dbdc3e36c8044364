"""The languages that can be asked for: known from the configurations of their repositories, before the model loads them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ccr_adapters.configuration import BASE_LANGUAGES
from ccr_adapters.errors import AdapterError, CCRError, ConfigError, LanguageError
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.adapter_folder import ADAPTER_CONFIG, read_adapter_config
from ccr_adapters.modeling.download import local_folder
from ccr_adapters.modeling.persistence import check_same_base
from ccr_adapters.processing.repository import at_commit, inside, read_config

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
    """The languages of a model, and more that it shall know: each is loaded when it is asked for, and makes room again.

    Args:
        model: The model; `model.max_languages` are in memory.
        places: Folders or repositories of adapters that it does not know yet.

    Raises:
        AdapterError: If a place has no adapters, or ones for another base.
        ConfigError: If two kinds of adapters would have to stand beside each other.
        LanguageError: If two places have the same language.
    """

    def __init__(self, model: CCRModel, places: Sequence[str] = ()) -> None:
        self._model = model
        self.known: dict[str, Known] = {}
        methods = {code: config.peft_type for code, config in getattr(model.base, "peft_config", {}).items()}
        for code in model.languages:
            own = model.space(code) is not None
            self.known[code] = Known(code, None, _name(methods.get(code)), own)
        for place in places:
            self._read(place)
        kinds = {each.method: each.code for each in self.known.values() if each.method is not None}
        if len(kinds) > 1:
            raise ConfigError(
                f"{' and '.join(f'{code!r} ({kind})' for kind, code in sorted(kinds.items()))} cannot stand beside each other on "
                "one base. Serve them by two servers."
            )

    def _read(self, place: str) -> None:
        """Let the model know the languages of a place, without loading any."""
        folder = local_folder(place, {}, [])
        config = read_config(folder)
        try:
            check_same_base(self._model, config)
        except AdapterError as error:
            raise AdapterError(
                f"'{place}' needs another base than this one; serve it by a server of its own. ({error})"
            ) from error
        for code, language in (config.languages or {}).items():
            if code in self.known:
                other = self.known[code].place or "the model"
                raise LanguageError(f"Language {code!r} is in '{other}' and in '{place}'. Name one of them.")
            own = inside(folder, language.folder)
            # of a repository on the Hub only the configuration is here until the language is asked for
            there = (own / ADAPTER_CONFIG).is_file()
            method = _name(read_adapter_config(own).peft_type) if there else None
            self.known[code] = Known(code, place, method, language.head is not None)
        self._model.load_language(place, lazy=True, **at_commit({}, folder))

    @property
    def loaded(self) -> list[str]:
        """Codes of those that are in memory."""
        there = set(self._model.loaded_languages)
        return [code for code in self.known if code in there]

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
        """Those languages whose files have to be downloaded first."""
        places = self._model.shelf.places
        return [code for code in dict.fromkeys(codes) if code in places and not places[code].here]

    def fetch(self, code: str) -> None:
        """Download the files of a language; in any thread.

        Args:
            code: Its code.

        Raises:
            HubError: If that fails.
        """
        self._model.shelf.places[code].fetch(code)

    def ensure(self, codes: Iterable[str | None]) -> dict[str, CCRError]:
        """Have languages in memory, in place of those that were not used for longest.

        Args:
            codes: What is about to be encoded, no more than may be in memory.

        Returns:
            What went wrong, by language; the others are there.
        """
        failed: dict[str, CCRError] = {}
        for code in codes:
            if code is None:
                continue
            try:
                self._model.shelf.load(self._model, code)
            except CCRError as error:
                logger.error("Language %r cannot be loaded: %s", code, error)
                failed[code] = error
        return failed


def _name(method: object) -> str | None:
    """A method of peft by its name, whether it comes as text or as a member of its enumeration."""
    return None if method is None else str(getattr(method, "value", method))
