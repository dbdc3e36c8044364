"""The languages of a model that are not in memory now: where each comes from, which make room, and who is using one.

A language that was loaded from a folder or a repository can be loaded again, so it may leave when others are needed more.
One that was added here, or trained, is nowhere else, and stays.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ccr_adapters.configuration import LanguageConfig
from ccr_adapters.errors import CCRError, ConfigError, LanguageError
from ccr_adapters.modeling.download import local_folder
from ccr_adapters.processing.repository import inside

logger = logging.getLogger(__name__)


@dataclass
class Place:
    """Where a language can be loaded from.

    Args:
        name: Folder or repository.
        language: Its configuration there.
        hub: Arguments of the download.
        subfolder: Folder inside the repository that holds its `config.json`.

    Attributes:
        folder: The folder with that file, once all that the language needs was downloaded; `None` until then.
    """

    name: str | Path
    language: LanguageConfig
    hub: dict[str, Any] = field(default_factory=dict)
    subfolder: str | None = None
    folder: Path | None = field(default=None, init=False)

    @property
    def here(self) -> bool:
        """Whether nothing has to be downloaded any more."""
        return self.folder is not None or Path(self.name).is_dir()

    def fetch(self, code: str) -> Path:
        """Have the language's files here, downloaded the first time; returns the folder that holds its `config.json`."""
        if self.folder is None:
            root = local_folder(self.name, dict(self.hub), [code], self.subfolder)
            self.folder = inside(root, self.subfolder or "")
        return self.folder


class Holds(Protocol):
    """A model that languages can be put into and taken out of."""

    @property
    def loaded_languages(self) -> list[str]:
        """Codes of the languages in memory."""

    def may_leave(self, code: str) -> bool:
        """Whether nothing would be lost if it were not."""

    def put_language(self, code: str, place: Place) -> None:
        """Load a language that was fetched; no other thread encodes meanwhile."""

    def take_language(self, code: str) -> None:
        """Unload a language; no other thread encodes meanwhile."""


class Shelf:
    """Keeps at most so many languages of a model in memory, those used last, and loads the others when they are asked for.

    Many threads may encode at once. Loading and unloading change the blocks that they run through, so they wait until no
    other thread is in a pass; downloading waits for nobody, and nobody for it but who asked.

    Args:
        most: Languages in memory; `None` for no bound. Calls that need more at once get them, and they leave after it.

    Attributes:
        switching: Held by the thread that has layers of peft set to its language: LoRA's know one at a time.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.places: dict[str, Place] = {}
        self._last_used: dict[str, None] = {}  # in this order
        self._in_use: Counter[str] = Counter()
        self._passes: Counter[int] = Counter()  # of each thread
        self._changing: int | None = None
        self._waiting = 0
        self._state = threading.Condition()
        # one that lets its holder in again: activations are computed again in the middle of a pass
        self.switching = threading.RLock()

    @property
    def most(self) -> int | None:
        """Languages in memory."""
        return self._most

    @most.setter
    def most(self, value: int | None) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"`max_languages` is {value!r}; expected a number, 1 or more, or None for no bound.")
        self._most = value

    def __getstate__(self) -> dict[str, Any]:
        return {"most": self._most, "places": self.places, "used": list(self._last_used)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["most"])  # type: ignore[misc]
        self.places = dict(state["places"])
        self._last_used = dict.fromkeys(state["used"])

    @contextmanager
    def using(self, model: Holds, codes: Iterable[str]) -> Iterator[None]:
        """Have languages in memory for a while, loaded if need be; none of them leaves meanwhile."""
        codes, me = list(dict.fromkeys(codes)), threading.get_ident()
        with self._state:
            self._in_use.update(codes)  # what one call has loaded is not unloaded by another before it begins
        try:
            self._enter(model, codes, me)
            try:
                yield
            finally:
                self._leave(me)
        finally:
            with self._state:
                self._in_use.subtract(codes)
            # two threads that each waited for the other's pass to end, in the middle of their own, would wait for ever
            if me not in self._passes and self._too_many(model):
                self.make_room(model)

    def _enter(self, model: Holds, codes: list[str], me: int) -> None:
        """Begin a pass once every language is here; another thread may delete one until then."""
        while True:
            with self._state:
                # who is in a pass by now may begin another inside it, or nothing would ever end
                while not self._passes[me] and self._changing != me and (self._changing is not None or self._waiting):
                    self._state.wait()
                missing = set(codes) - set(model.loaded_languages)
                if not missing:
                    self._touch(codes)
                    self._passes[me] += 1
                    return
            for code in codes:
                if code in missing:
                    self.load(model, code)

    def _leave(self, me: int) -> None:
        with self._state:
            self._passes[me] -= 1
            if not self._passes[me]:
                del self._passes[me]
            self._state.notify_all()

    def load(self, model: Holds, code: str) -> None:
        """Load a language from its place, if it is not there by now, in place of those not used for longest.

        Raises:
            LanguageError: If it has none.
        """
        if code not in model.loaded_languages:
            place = self.places.get(code)
            if place is not None:
                place.fetch(code)
            with self.alone():
                self._put(model, code, place)
        self._touch([code])

    def _put(self, model: Holds, code: str, place: Place | None) -> None:
        """Load a language that was fetched, unless another thread was faster."""
        if code in model.loaded_languages:
            return
        if place is None or self.places.get(code) is not place:
            raise LanguageError(f"Language {code!r} is gone: it was deleted while it was asked for.")
        self.make_room(model, 1)
        try:
            model.put_language(code, place)
        except CCRError:
            place.folder = None  # what is broken here may be whole where it came from
            raise
        logger.info("Language %r was loaded from '%s'", code, place.name)

    def _touch(self, codes: Iterable[str]) -> None:
        with self._state:
            for code in codes:
                self._last_used.pop(code, None)
                self._last_used[code] = None

    def make_room(self, model: Holds, coming: int = 0) -> None:
        """Unload those not used for longest, down to the bound less those coming, and none in use or nowhere else."""
        with self.alone():
            while self._too_many(model, coming):
                code = self._leavable(model)[0]
                model.take_language(code)
                self._last_used.pop(code, None)
                logger.info("Language %r made room", code)

    def _too_many(self, model: Holds, coming: int = 0) -> bool:
        """Whether there are more than the bound, and one of them could leave."""
        if self._most is None:
            return False
        return len(model.loaded_languages) + coming > self._most and bool(self._leavable(model))

    def _leavable(self, model: Holds) -> list[str]:
        """Languages that may leave, the one not used for longest first."""
        with self._state:
            order = {code: place for place, code in enumerate(self._last_used)}
            here = sorted(model.loaded_languages, key=lambda code: order.get(code, -1))
            return [code for code in here if code in self.places and not self._in_use[code] and model.may_leave(code)]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Change the model's languages while no other thread is in a pass."""
        me = threading.get_ident()
        if self._changing == me:
            yield
            return
        with self._state:
            self._waiting += 1
            try:
                while self._changing is not None or any(other != me for other in self._passes):
                    self._state.wait()
                self._changing = me
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._state:
                self._changing = None
                self._state.notify_all()
