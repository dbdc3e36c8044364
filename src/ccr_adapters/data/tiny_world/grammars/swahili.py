"""Swahili captions: the noun class of the noun decides the prefix of adjectives, numbers, links and verbs."""

from __future__ import annotations

from dataclasses import dataclass

from ..message import Clause
from .base import Grammar, Telling


@dataclass(frozen=True)
class Noun:
    """A noun.

    Attributes:
        classes: the noun classes of singular and plural concord; animals take those of people, 1 and 2.
        singular: the singular.
        plural: the plural.
        small: a diminutive, which nothing large is called.
    """

    classes: tuple[int, int]
    singular: str
    plural: str
    small: bool = False


NOUNS: dict[str, tuple[Noun, ...]] = {
    "circle": (Noun((5, 6), "duara", "maduara"), Noun((3, 4), "mviringo", "miviringo")),
    "square": (Noun((3, 4), "mraba", "miraba"),),
    "triangle": (Noun((9, 10), "pembetatu", "pembetatu"),),
    "star": (Noun((9, 10), "nyota", "nyota"),),
    "heart": (Noun((3, 4), "moyo", "mioyo"),),
    "diamond": (Noun((9, 10), "almasi", "almasi"), Noun((7, 8), "kito", "vito")),
    "cross": (Noun((3, 4), "msalaba", "misalaba"),),
    "ring": (Noun((9, 10), "pete", "pete"),),
    "moon": (Noun((3, 4), "mwezi", "miezi"), Noun((9, 10), "hilali", "hilali")),
    "flower": (Noun((5, 6), "ua", "maua"),),
    "house": (Noun((9, 10), "nyumba", "nyumba"), Noun((7, 8), "kibanda", "vibanda", small=True)),
    "fish": (Noun((1, 2), "samaki", "samaki"),),
}
# A true adjective, marked by its hyphen, or a noun that follows the link '-a', 'of'.
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("-ekundu",),
    "orange": ("machungwa", "rangi ya machungwa"),
    "yellow": ("njano", "manjano"),
    "green": ("kijani", "rangi ya kijani"),
    "blue": ("buluu", "samawati"),
    "purple": ("zambarau", "urujuani"),
    "pink": ("waridi", "pinki"),
    "white": ("-eupe",),
    "black": ("-eusi",),
}
SIZES: dict[str, tuple[str, ...]] = {"small": ("-dogo", "-dogo sana"), "large": ("-kubwa", "-kubwa sana")}
# After '-enye', 'having'.
TEXTURES: dict[str, tuple[str, ...]] = {
    "striped": ("mistari", "milia"),
    "dotted": ("madoa", "nukta"),
    "checked": ("mirabaraba", "viraba"),
}
NUMBERS = {2: "-wili", 3: "-tatu"}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left_of": ("upande wa kushoto wa", "kushoto kwa"),
    "right_of": ("upande wa kulia wa", "kulia kwa"),
    "above": ("juu ya",),
    "below": ("chini ya",),
    "in_front_of": ("mbele ya",),
    "behind": ("nyuma ya",),
    "inside": ("ndani ya", "katikati ya"),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("angani", "kwenye anga la buluu"),
    "grass": ("kwenye nyasi", "kwenye nyasi za kijani"),
    "sand": ("kwenye mchanga", "ufukweni"),
    "night": ("usiku", "chini ya anga la usiku", "gizani"),
    "sunset": ("wakati wa machweo", "jua linapotua"),
    "sea": ("baharini", "juu ya maji"),
    "snow": ("kwenye theluji", "thelujini"),
    "wall": ("mbele ya ukuta wa matofali", "kwenye ukuta wa matofali"),
}
TERSE_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("anga",),
    "grass": ("nyasi",),
    "sand": ("mchanga", "ufuko"),
    "night": ("usiku",),
    "sunset": ("machweo",),
    "sea": ("bahari", "maji"),
    "snow": ("theluji",),
    "wall": ("ukuta wa matofali",),
}

# What a class puts before each stem. 9 and 10 have 'n-' before d and nothing before k and t; vowels fuse.
ADJECTIVES: dict[str, dict[int, str]] = {
    "-dogo": {1: "mdogo", 2: "wadogo", 3: "mdogo", 4: "midogo", 5: "dogo", 6: "madogo", 7: "kidogo", 8: "vidogo",
              9: "ndogo", 10: "ndogo"},
    "-kubwa": {1: "mkubwa", 2: "wakubwa", 3: "mkubwa", 4: "mikubwa", 5: "kubwa", 6: "makubwa", 7: "kikubwa",
               8: "vikubwa", 9: "kubwa", 10: "kubwa"},
    "-ekundu": {1: "mwekundu", 2: "wekundu", 3: "mwekundu", 4: "myekundu", 5: "jekundu", 6: "mekundu",
                7: "chekundu", 8: "vyekundu", 9: "nyekundu", 10: "nyekundu"},
    "-eupe": {1: "mweupe", 2: "weupe", 3: "mweupe", 4: "myeupe", 5: "jeupe", 6: "meupe", 7: "cheupe", 8: "vyeupe",
              9: "nyeupe", 10: "nyeupe"},
    "-eusi": {1: "mweusi", 2: "weusi", 3: "mweusi", 4: "myeusi", 5: "jeusi", 6: "meusi", 7: "cheusi", 8: "vyeusi",
              9: "nyeusi", 10: "nyeusi"},
    "-wili": {2: "wawili", 4: "miwili", 6: "mawili", 8: "viwili", 10: "mbili"},
    "-tatu": {2: "watatu", 4: "mitatu", 6: "matatu", 8: "vitatu", 10: "tatu"},
}  # fmt: skip
LINK = {1: "wa", 2: "wa", 3: "wa", 4: "ya", 5: "la", 6: "ya", 7: "cha", 8: "vya", 9: "ya", 10: "za"}
HAVING = {
    1: "mwenye", 2: "wenye", 3: "wenye", 4: "yenye", 5: "lenye", 6: "yenye", 7: "chenye", 8: "vyenye", 9: "yenye",
    10: "zenye",
}  # fmt: skip
THAT = {1: "huyo", 2: "hao", 3: "huo", 4: "hiyo", 5: "hilo", 6: "hayo", 7: "hicho", 8: "hivyo", 9: "hiyo", 10: "hizo"}
WHICH = {
    1: "ambaye", 2: "ambao", 3: "ambao", 4: "ambayo", 5: "ambalo", 6: "ambayo", 7: "ambacho", 8: "ambavyo",
    9: "ambayo", 10: "ambazo",
}  # fmt: skip
IS_AT = {1: "yuko", 2: "wako", 3: "uko", 4: "iko", 5: "liko", 6: "yako", 7: "kiko", 8: "viko", 9: "iko", 10: "ziko"}
SUBJECT = {1: "a", 2: "wa", 3: "u", 4: "i", 5: "li", 6: "ya", 7: "ki", 8: "vi", 9: "i", 10: "zi"}


def agree(stem: str, noun_class: int) -> str:
    """An adjective or number in its form for a noun class; what follows the stem, such as 'sana', stays."""
    head, _, rest = stem.partition(" ")
    return f"{ADJECTIVES[head][noun_class]} {rest}".strip()


class Swahili(Grammar):
    """Swahili."""

    language = "sw"
    conjunction = "na"

    def noun(self, telling: Telling, index: int) -> Noun:
        """The noun for a thing; no diminutive for a large one."""
        mention = telling.message.things[index]
        return telling.noun(index, [n for n in NOUNS[mention.shape] if not (n.small and mention.size == "large")])

    def noun_class(self, telling: Telling, index: int) -> int:
        """The class that everything about a thing agrees with."""
        return self.noun(telling, index).classes[telling.message.things[index].count > 1]

    def colour(self, word: str, noun_class: int) -> str:
        """A colour as an adjective, or linked by '-a'."""
        return agree(word, noun_class) if word.startswith("-") else f"{LINK[noun_class]} {word}"

    def thing(self, telling: Telling, index: int, case: str = "nom") -> str:
        """See `Grammar.thing`; Swahili has no articles, but 'that one mentioned'. There are no cases."""
        mention, voice, noun = telling.message.things[index], telling.voice, self.noun(telling, index)
        noun_class = self.noun_class(telling, index)
        word = noun.plural if mention.count > 1 else noun.singular
        if not telling.introduce(index):
            colour = self.colour(COLOURS[mention.colour][0], noun_class)
            return voice.frame((f"{word} {THAT[noun_class]}", f"{word} {THAT[noun_class]} {colour}"))
        size = agree(voice.word(SIZES[mention.size]), noun_class) if mention.size else ""
        number = agree(NUMBERS[mention.count], noun_class) if mention.count > 1 else ""
        colour_word = voice.word(COLOURS[mention.colour])
        colour = self.colour(colour_word, noun_class)
        texture = f"{HAVING[noun_class]} {voice.word(TEXTURES[mention.texture])}" if mention.texture else ""
        # Adjectives come before the number, what is linked comes after it.
        tail = (colour, number) if colour_word.startswith("-") else (number, colour)
        return " ".join(part for part in (word, size, *tail, texture) if part)

    def place(self, telling: Telling, clause: Clause) -> str:
        """See `Grammar.place`."""
        if clause.kind is None or clause.anchor is None:
            return ""
        return f"{telling.voice.word(RELATIONS[clause.kind])} {self.thing(telling, clause.anchor)}"

    def background(self, telling: Telling) -> str:
        """The background as an adverbial, or nothing."""
        name = telling.message.background
        return telling.voice.word(BACKGROUNDS[name]) if name else ""

    def plain(self, telling: Telling) -> str:
        """See `Grammar.plain`."""
        return f"{self.join(self.statements(telling))} {self.background(telling)}".strip() + "."

    def terse(self, telling: Telling) -> str:
        """See `Grammar.terse`."""
        parts = self.statements(telling)
        if telling.message.background:
            parts.append(telling.voice.word(TERSE_BACKGROUNDS[telling.message.background]))
        return ", ".join(parts)

    def wordy(self, telling: Telling) -> str:
        """See `Grammar.wordy`."""
        voice, sentences = telling.voice, []
        background = self.background(telling)
        for number, clause in enumerate(telling.message.clauses):
            start = (
                ("picha inaonyesha", "katika picha hii tunaona") if number == 0 else ("pia kuna", "vilevile tunaona")
            )
            opening = f"{background}, {voice.frame(start)}" if number == 0 and background else voice.frame(start)
            sentence = f"{opening} {self.thing(telling, clause.subject)}"
            if place := self.place(telling, clause):
                noun_class = self.noun_class(telling, clause.subject)
                verb = voice.frame((IS_AT[noun_class], f"{SUBJECT[noun_class]}naonekana"))
                sentence += f" {WHICH[noun_class]} {verb} {place}"
            sentences.append(sentence)
        return ". ".join(sentences) + "."

    def inverted(self, telling: Telling) -> str:
        """See `Grammar.inverted`."""
        background, parts = self.background(telling), []
        for number, clause in enumerate(telling.message.clauses):
            place = self.place(telling, clause)
            start = ", ".join(part for part in (background if number == 0 else "", place) if part)
            subject = self.thing(telling, clause.subject)
            appears = f"{SUBJECT[self.noun_class(telling, clause.subject)]}naonekana"
            parts.append(f"{start or 'hapa'} {telling.voice.frame(('kuna', appears))} {subject}")
        return self.join(parts) + "."

    def existential(self, telling: Telling) -> str:
        """See `Grammar.existential`."""
        opening = telling.voice.frame(("kuna", "naona", "unaweza kuona"))
        return f"{opening} {self.join(self.statements(telling))} {self.background(telling)}".strip() + "."

    def passive(self, telling: Telling) -> str:
        """See `Grammar.passive`."""
        parts = []
        for number, clause in enumerate(telling.message.clauses):
            subject, place = self.thing(telling, clause.subject), self.place(telling, clause)
            stem = telling.voice.frame(("mechorwa", "mewekwa") if place else ("mechorwa",))
            verb = SUBJECT[self.noun_class(telling, clause.subject)] + stem
            background = self.background(telling) if number == 0 else ""
            parts.append(" ".join(part for part in (subject, verb, place, background) if part))
        return self.join(parts) + "."

    def query(self, telling: Telling) -> str:
        """See `Grammar.query`."""
        frames = ("picha yenye {}", "tafuta {}", "iko wapi picha ya {}?", "nionyeshe {}", "picha ya {}")
        content = f"{self.join(self.statements(telling))} {self.background(telling)}".strip()
        return telling.voice.frame(frames).format(content)
