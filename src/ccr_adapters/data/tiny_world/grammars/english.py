"""English captions: the source side of the tiny world."""

from __future__ import annotations

from ..message import Clause
from .base import Grammar, Telling

# Singular and plural; the first of each row is the usual word.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "heart": (("heart", "hearts"),),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "cross": (("cross", "crosses"), ("plus sign", "plus signs")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "moon": (("moon", "moons"), ("crescent", "crescents")),
    "flower": (("flower", "flowers"), ("blossom", "blossoms")),
    "house": (("house", "houses"), ("cottage", "cottages")),
    "fish": (("fish", "fish"),),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "white": ("white",),
    "black": ("black",),
}
SIZES: dict[str, tuple[str, ...]] = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
# Before the colour, or after the noun.
TEXTURES: dict[str, tuple[tuple[str, str], ...]] = {
    "striped": (("striped", ""), ("", "with stripes"), ("stripy", "")),
    "dotted": (("dotted", ""), ("", "with dots"), ("spotted", "")),
    "checked": (("checked", ""), ("", "with checks"), ("chequered", "")),
}
NUMBERS = {2: "two", 3: "three"}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left_of": ("to the left of", "left of", "on the left of"),
    "right_of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath"),
    "in_front_of": ("in front of", "partly covering"),
    "behind": ("behind", "partly hidden by"),
    "inside": ("inside", "in", "within"),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("in the sky", "against a blue sky"),
    "grass": ("on the grass", "on a green meadow", "on a lawn"),
    "sand": ("on the sand", "on a beach"),
    "night": ("at night", "under a night sky", "in the dark"),
    "sunset": ("at sunset", "in the evening light", "at dusk"),
    "sea": ("on the sea", "on the water"),
    "snow": ("in the snow", "on snowy ground"),
    "wall": ("in front of a brick wall", "against a brick wall"),
}
TERSE_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("sky",),
    "grass": ("grass", "meadow"),
    "sand": ("sand", "beach"),
    "night": ("night",),
    "sunset": ("sunset", "dusk"),
    "sea": ("sea", "water"),
    "snow": ("snow",),
    "wall": ("brick wall", "bricks"),
}


def indefinite(phrase: str) -> str:
    """Put 'a' or 'an' before a singular phrase."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


class English(Grammar):
    """English."""

    language = "en"
    conjunction = "and"

    def describe(self, index: int, telling: Telling) -> str:
        """The noun phrase without article: 'small striped red star', 'two red stars with dots'."""
        mention, voice = telling.message.things[index], telling.voice
        size = voice.word(SIZES[mention.size]) if mention.size else ""
        before, after = voice.word(TEXTURES[mention.texture]) if mention.texture else ("", "")
        noun = telling.noun(index, NOUNS[mention.shape])[mention.count > 1]
        number = NUMBERS.get(mention.count, "")
        colour = voice.word(COLOURS[mention.colour])
        return " ".join(part for part in (number, size, before, colour, noun, after) if part)

    def thing(self, telling: Telling, index: int, case: str = "nom") -> str:
        """See `Grammar.thing`; the case 'bare' means: without article."""
        mention, voice = telling.message.things[index], telling.voice
        if telling.introduce(index):
            phrase = self.describe(index, telling)
            return phrase if mention.count > 1 or case == "bare" else indefinite(phrase)
        noun = telling.noun(index, NOUNS[mention.shape])[mention.count > 1]
        short = noun if voice.frame((True, False)) else f"{COLOURS[mention.colour][0]} {noun}"
        return short if case == "bare" else f"the {short}"

    def place(self, telling: Telling, clause: Clause, case: str = "nom") -> str:
        """See `Grammar.place`."""
        if clause.kind is None or clause.anchor is None:
            return ""
        preposition = telling.voice.word(RELATIONS[clause.kind])
        return f"{preposition} {self.thing(telling, clause.anchor, case)}"

    def background(self, telling: Telling) -> str:
        """The background as an adverbial, or nothing."""
        name = telling.message.background
        return telling.voice.word(BACKGROUNDS[name]) if name else ""

    def plain(self, telling: Telling) -> str:
        """See `Grammar.plain`."""
        return f"{self.join(self.statements(telling))} {self.background(telling)}".strip() + "."

    def terse(self, telling: Telling) -> str:
        """See `Grammar.terse`."""
        parts = []
        for clause in telling.message.clauses:
            subject = self.thing(telling, clause.subject, "bare")
            parts.append(f"{subject} {self.place(telling, clause, 'bare')}".strip())
        if telling.message.background:
            parts.append(telling.voice.word(TERSE_BACKGROUNDS[telling.message.background]))
        return ", ".join(parts)

    def wordy(self, telling: Telling) -> str:
        """See `Grammar.wordy`."""
        opening = telling.voice.frame(("the picture shows", "in this picture we can see", "this image contains"))
        sentences = []
        for number, clause in enumerate(telling.message.clauses):
            subject = self.thing(telling, clause.subject)
            be = "are" if telling.message.things[clause.subject].count > 1 else "is"
            if place := self.place(telling, clause):
                verb = telling.voice.frame((be, f"{be} placed", "can be seen"))
                link = f"that {verb} {place}"
            else:
                link = ""
            start = opening if number == 0 else telling.voice.frame((f"there {be} also", "besides, it shows"))
            sentences.append(f"{start} {subject} {link}".strip())
        if background := self.background(telling):
            closing = telling.voice.frame(("everything is", "the whole scene is set"))
            sentences.append(f"{closing} {background}")
        return ". ".join(sentences) + "."

    def inverted(self, telling: Telling) -> str:
        """See `Grammar.inverted`."""
        background, parts = self.background(telling), []
        for number, clause in enumerate(telling.message.clauses):
            place = self.place(telling, clause)
            start = " ".join(part for part in (background if number == 0 else "", place) if part)
            plural = telling.message.things[clause.subject].count > 1
            verb = telling.voice.frame(("are", "sit") if plural else ("is", "sits"))
            subject = self.thing(telling, clause.subject)
            parts.append(f"{start or 'here'} {verb} {subject}")
        return self.join(parts) + "."

    def existential(self, telling: Telling) -> str:
        """See `Grammar.existential`."""
        plural = telling.message.things[telling.message.clauses[0].subject].count > 1
        opening = telling.voice.frame(("there are" if plural else "there is", "I see", "you can see"))
        return f"{opening} {self.join(self.statements(telling))} {self.background(telling)}".strip() + "."

    def passive(self, telling: Telling) -> str:
        """See `Grammar.passive`."""
        parts = []
        for clause in telling.message.clauses:
            subject, place = self.thing(telling, clause.subject), self.place(telling, clause)
            have = "have been" if telling.message.things[clause.subject].count > 1 else "has been"
            participle = telling.voice.frame(("drawn", "painted", "placed") if place else ("drawn", "painted"))
            parts.append(f"{subject} {have} {participle} {place}".strip())
        return f"{self.join(parts)} {self.background(telling)}".strip() + "."

    def query(self, telling: Telling) -> str:
        """See `Grammar.query`."""
        opening, end = telling.voice.frame(
            (("picture of", ""), ("find", ""), ("where is the picture with", "?"), ("show me", ""), ("photo with", ""))
        )
        return f"{opening} {self.join(self.statements(telling))} {self.background(telling)}".strip() + end
