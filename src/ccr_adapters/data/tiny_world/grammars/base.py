"""What the grammars share: the voice that chooses words, the telling that remembers what was named, the styles."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from ..message import Clause, Message

T = TypeVar("T")

# How people write captions. 'plain' is nobody's style: it is the machine translator's.
STYLES = ("terse", "wordy", "inverted", "existential", "passive", "query")
PLAIN = "plain"


class Voice:
    """Chooses among ways to say the same.

    Args:
        rng: the source of randomness; without it the voice always takes the first way, as a machine translator does.
        variety: share of words for which a synonym takes the place of the usual word.
    """

    def __init__(self, rng: random.Random | None = None, variety: float = 0.25) -> None:
        self._rng = rng
        self._variety = variety

    def word(self, options: Sequence[T]) -> T:
        """The usual word, which is the first, or now and then one of its synonyms."""
        if self._rng is None or len(options) == 1 or self._rng.random() >= self._variety:
            return options[0]
        return options[1 + self._rng.randrange(len(options) - 1)]

    def frame(self, options: Sequence[T]) -> T:
        """Any of several sentence patterns, all alike usual."""
        return options[0] if self._rng is None else options[self._rng.randrange(len(options))]


class Telling:
    """One caption in the making.

    Args:
        message: what to say.
        voice: who says it.
    """

    def __init__(self, message: Message, voice: Voice) -> None:
        self.message = message
        self.voice = voice
        self._named: set[int] = set()
        self._nouns: dict[int, object] = {}

    def noun(self, index: int, options: Sequence[T]) -> T:
        """The word for a thing, chosen at first and kept: who says 'disc' once does not say 'circle' afterwards."""
        if index not in self._nouns:
            self._nouns[index] = self.voice.word(options)
        chosen = self._nouns[index]
        return next(option for option in options if option == chosen)

    def introduce(self, index: int) -> bool:
        """Note that a thing is being named; True the first time, when it needs its full description."""
        first = index not in self._named
        self._named.add(index)
        return first


class Grammar(ABC):
    """A language of the tiny world.

    A subclass holds a lexicon and says, in one method for each style, how a message is put into words. Styles return
    words separated by single spaces, with punctuation attached, so that the translator's noise can work on words;
    `finish` makes a line of text of them.
    """

    language: str
    """BCP-47 code."""
    conjunction: str
    """The word that joins the last of several statements."""

    def words(self, message: Message, style: str, voice: Voice) -> list[str]:
        """Put a message into words.

        Args:
            message: what to say.
            style: one of `STYLES`, or `PLAIN`.
            voice: who says it.

        Returns:
            The words in order, punctuation attached.

        Raises:
            ValueError: if there is no such style.
        """
        if style not in (*STYLES, PLAIN):
            raise ValueError(f"No caption style {style!r}. There are: {', '.join((*STYLES, PLAIN))}.")
        text: str = getattr(self, style)(Telling(message, voice))
        return text.split()

    def finish(self, words: Sequence[str]) -> str:
        """Join words to a line of text whose sentences start with a capital letter."""
        text = " ".join(words).strip(" ,")
        return re.sub(r"(^|[.?!] )(\w)", lambda match: match[1] + match[2].upper(), text)

    def caption(self, message: Message, style: str, voice: Voice | None = None) -> str:
        """Write a caption: `words`, then `finish`. Arguments as in `words`; without a voice, the usual words."""
        return self.finish(self.words(message, style, voice or Voice()))

    def statements(self, telling: Telling, case: str = "nom") -> list[str]:
        """Each clause as a noun phrase with its place: 'a red star left of a blue house'."""
        return [self.statement(telling, clause, case) for clause in telling.message.clauses]

    def statement(self, telling: Telling, clause: Clause, case: str = "nom") -> str:
        """One clause as a noun phrase with its place."""
        subject = self.thing(telling, clause.subject, case)
        place = self.place(telling, clause)
        return f"{subject} {place}" if place else subject

    def join(self, parts: Sequence[str], separator: str = ",") -> str:
        """Join parts as a list: 'a, b and c'."""
        if len(parts) == 1:
            return parts[0]
        return f"{f'{separator} '.join(parts[:-1])} {self.conjunction} {parts[-1]}"

    @abstractmethod
    def thing(self, telling: Telling, index: int, case: str = "nom") -> str:
        """The noun phrase for a thing: full and indefinite at first, short and definite afterwards."""

    @abstractmethod
    def place(self, telling: Telling, clause: Clause) -> str:
        """Where a clause's subject is, such as 'left of a blue house'; empty if the clause does not say."""

    @abstractmethod
    def plain(self, telling: Telling) -> str:
        """The machine translator's only style: noun phrases in order, the background last."""

    @abstractmethod
    def terse(self, telling: Telling) -> str:
        """Key words, without articles where the language has them."""

    @abstractmethod
    def wordy(self, telling: Telling) -> str:
        """Whole sentences about 'the picture'."""

    @abstractmethod
    def inverted(self, telling: Telling) -> str:
        """The place first, the thing last."""

    @abstractmethod
    def existential(self, telling: Telling) -> str:
        """'There is', 'one sees'."""

    @abstractmethod
    def passive(self, telling: Telling) -> str:
        """'A star has been drawn left of a house'."""

    @abstractmethod
    def query(self, telling: Telling) -> str:
        """What a person would type or ask to find the picture."""
