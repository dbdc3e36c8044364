"""How the languages of the tiny world tell of motion: 'a red star moves to the left behind a blue house'.

The grammars of still pictures give the phrases for things and places, in the case that a sentence asks for; here are the
verbs, which agree with what moves, the directions, and how a sentence is built around them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from .grammars import Voice, grammar_for
from .grammars import chinese as zh
from .grammars import czech as cs
from .grammars import german as de
from .grammars import swahili as sw
from .grammars.base import Telling
from .message import Message

MOTION_STYLES = ("declarative", "wordy", "inverted")


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


class MotionGrammar(ABC):
    """How a language tells of motion; one instance tells one caption.

    Args:
        message: what to say of the things.
        direction: one of `motion.DIRECTIONS`.
        voice: who says it.
    """

    language: str
    ways: ClassVar[dict[str, tuple[str, ...]]]
    """Phrases for each direction, the usual one first."""
    verbs: ClassVar[tuple[tuple[str, str], ...]]
    """Verbs in singular and plural, the usual one first."""

    def __init__(self, message: Message, direction: str, voice: Voice) -> None:
        self.grammar: Any = grammar_for(self.language)
        self.telling = Telling(message, voice)
        self.clause = message.clauses[0]
        self.voice = voice
        self.way = voice.word(self.ways[direction])
        self.plural = message.things[0].count > 1
        self.verb = voice.word(self.verbs)[self.plural]

    def subject(self, case: str = "nom") -> str:
        """What moves."""
        phrase: str = self.grammar.thing(self.telling, 0, case)
        return phrase

    def place(self) -> str:
        """Where it passes, or nothing."""
        phrase: str = self.grammar.place(self.telling, self.clause)
        return phrase

    def scene(self) -> str:
        """The background, or nothing."""
        phrase: str = self.grammar.background(self.telling)
        return phrase

    def caption(self, style: str) -> str:
        """The caption in one of `MOTION_STYLES`."""
        text: str = self.grammar.finish(getattr(self, style)().split())
        return text

    @abstractmethod
    def declarative(self) -> str:
        """What moves, then how: the translator's only style."""

    @abstractmethod
    def wordy(self) -> str:
        """Whole sentences about 'the video', with a relative clause."""

    @abstractmethod
    def inverted(self) -> str:
        """The place first."""


class English(MotionGrammar):
    """English."""

    language = "en"
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        # no bare 'right', which would make 'right in front of' of a place
        "left": ("to the left", "left", "leftwards"),
        "right": ("to the right", "rightwards"),
        "up": ("up", "upwards"),
        "down": ("down", "downwards"),
    }
    verbs = (("moves", "move"), ("glides", "glide"), ("slides", "slide"))

    def declarative(self) -> str:
        """See `MotionGrammar.declarative`."""
        return _words(self.subject(), self.verb, self.way, self.place(), self.scene()) + "."

    def wordy(self) -> str:
        """See `MotionGrammar.wordy`."""
        start = self.voice.frame(("the video shows", "in this clip we can see"))
        told = _words(start, self.subject(), "that", self.verb, self.way, self.place()) + "."
        scene = self.scene()
        return _words(told, f"everything is {scene}." if scene else "")

    def inverted(self) -> str:
        """See `MotionGrammar.inverted`."""
        place, scene = self.place(), self.scene()
        start = f"{place or scene}," if place or scene else "here"
        return _words(start, self.subject(), self.verb, self.way, scene if place else "") + "."


class German(MotionGrammar):
    """German: the verb stands second, and last in a relative clause; 'hinter' keeps its dative, as nothing goes there."""

    language = "de"
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        "left": ("nach links", "von rechts nach links"),
        "right": ("nach rechts", "von links nach rechts"),
        "up": ("nach oben", "aufwärts"),
        "down": ("nach unten", "abwärts"),
    }
    verbs = (("bewegt sich", "bewegen sich"), ("gleitet", "gleiten"), ("wandert", "wandern"))

    def declarative(self) -> str:
        """See `MotionGrammar.declarative`."""
        return _words(self.subject(), self.verb, self.scene(), self.place(), self.way) + "."

    def wordy(self) -> str:
        """See `MotionGrammar.wordy`."""
        start = self.voice.frame(("das Video zeigt", "im Video sieht man"))
        subject = self.subject("acc")
        gender = "p" if self.plural else self.grammar.noun(self.telling, 0).gender
        verb, _, reflexive = self.verb.partition(" ")
        return (
            _words(
                f"{start} {subject}, {de.DEFINITE['nom'][gender]}",
                reflexive,
                self.scene(),
                self.place(),
                self.way,
                verb,
            )
            + "."
        )

    def inverted(self) -> str:
        """See `MotionGrammar.inverted`."""
        place, scene = self.place(), self.scene()
        if not (place or scene):
            return _words(self.way, self.verb, self.subject()) + "."
        return _words(place or scene, self.verb, self.subject(), scene if place else "", self.way) + "."


class French(MotionGrammar):
    """French."""

    language = "fr"
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        "left": ("vers la gauche", "de droite à gauche"),
        "right": ("vers la droite", "de gauche à droite"),
        "up": ("vers le haut", "de bas en haut"),
        "down": ("vers le bas", "de haut en bas"),
    }
    verbs = (("se déplace", "se déplacent"), ("glisse", "glissent"), ("avance", "avancent"))

    def declarative(self) -> str:
        """See `MotionGrammar.declarative`."""
        return _words(self.subject(), self.verb, self.way, self.place(), self.scene()) + "."

    def wordy(self) -> str:
        """See `MotionGrammar.wordy`."""
        start = self.voice.frame(("la vidéo montre", "dans cette vidéo on voit"))
        told = _words(start, self.subject(), "qui", self.verb, self.way, self.place()) + "."
        scene = self.scene()
        return _words(told, f"toute la scène se passe {scene}." if scene else "")

    def inverted(self) -> str:
        """See `MotionGrammar.inverted`."""
        place, scene = self.place(), self.scene()
        start = f"{place or scene}," if place or scene else "ici"
        return _words(start, self.subject(), self.verb, self.way, scene if place else "") + "."


class Czech(MotionGrammar):
    """Czech: 'se' stands second in its clause; 'za' keeps its instrumental, as nothing goes there."""

    language = "cs"
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        "left": ("doleva", "směrem doleva"),
        "right": ("doprava", "směrem doprava"),
        "up": ("nahoru", "směrem nahoru"),
        "down": ("dolů", "směrem dolů"),
    }
    verbs = (("se pohybuje", "se pohybují"), ("se posouvá", "se posouvají"), ("putuje", "putují"))

    def declarative(self) -> str:
        """See `MotionGrammar.declarative`."""
        return _words(self.subject(), self.verb, self.way, self.place(), self.scene()) + "."

    def wordy(self) -> str:
        """See `MotionGrammar.wordy`."""
        start = self.voice.frame(("video ukazuje", "na videu vidíme"))
        who = cs.RELATIVE[self.grammar.agreement(self.telling, self.clause)]
        return _words(f"{start} {self.subject('acc')}, {who}", self.verb, self.way, self.place(), self.scene()) + "."

    def inverted(self) -> str:
        """See `MotionGrammar.inverted`."""
        place, scene = self.place(), self.scene()
        if not (place or scene):
            return _words(self.way, self.verb, self.subject()) + "."
        return _words(place or scene, self.verb, self.way, scene if place else "", self.subject()) + "."


class Chinese(MotionGrammar):
    """Chinese: the place before the direction, the verb last."""

    language = "zh"
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        "left": ("向左", "往左", "朝左"),
        "right": ("向右", "往右", "朝右"),
        "up": ("向上", "往上"),
        "down": ("向下", "往下"),
    }
    verbs = (("移动", "移动"), ("滑动", "滑动"))

    def declarative(self) -> str:
        """See `MotionGrammar.declarative`."""
        scene = self.scene()
        told = _words(self.subject(), self.place(), self.way, self.verb)
        return f"{told}， 在 {scene} 。" if scene else f"{told} 。"

    def wordy(self) -> str:
        """See `MotionGrammar.wordy`."""
        start = self.voice.frame(("这段 视频 里 有", "视频 中 可以 看到"))
        pronoun = "它们" if self.plural else "它"
        told = _words(f"{start} {self.subject()} ，", pronoun, self.place(), self.way, self.verb, "。")
        name = self.telling.message.background
        return _words(told, f"画面 的 背景 是 {self.voice.word(zh.TERSE_BACKGROUNDS[name])} 。" if name else "")

    def inverted(self) -> str:
        """See `MotionGrammar.inverted`."""
        scene = self.scene()
        side = self.grammar.side(self.telling, self.clause)
        return _words(f"{scene} ，" if scene else "", side, "有", self.subject(), self.way, self.verb, "。")


class Swahili(MotionGrammar):
    """Swahili: the class of what moves decides the verb's prefix."""

    language = "sw"
    ways: ClassVar[dict[str, tuple[str, ...]]] = {
        "left": ("kushoto", "kuelekea kushoto", "upande wa kushoto"),
        "right": ("kulia", "kuelekea kulia", "upande wa kulia"),
        "up": ("juu", "kuelekea juu"),
        "down": ("chini", "kuelekea chini"),
    }
    verbs = (("nasogea", "nasogea"), ("nakwenda", "nakwenda"), ("nasonga", "nasonga"))

    def _moves(self) -> tuple[str, int]:
        noun_class: int = self.grammar.noun_class(self.telling, 0)
        return sw.SUBJECT[noun_class] + self.verb, noun_class

    def declarative(self) -> str:
        """See `MotionGrammar.declarative`."""
        return _words(self.subject(), self._moves()[0], self.way, self.place(), self.scene()) + "."

    def wordy(self) -> str:
        """See `MotionGrammar.wordy`."""
        scene = self.scene()
        start = self.voice.frame(("video inaonyesha", "katika video hii tunaona"))
        subject, (verb, noun_class) = self.subject(), self._moves()
        opening = f"{scene}," if scene else ""
        return _words(opening, start, subject, sw.WHICH[noun_class], verb, self.way, self.place()) + "."

    def inverted(self) -> str:
        """See `MotionGrammar.inverted`."""
        place, scene = self.place(), self.scene()
        start = f"{place or scene}," if place or scene else "hapa"
        return _words(start, self.subject(), self._moves()[0], self.way, scene if place else "") + "."


MOTION_GRAMMARS: dict[str, type[MotionGrammar]] = {
    grammar.language: grammar for grammar in (English, German, French, Czech, Chinese, Swahili)
}
