"""German captions: three genders, three cases, and adjective endings that depend on the article."""

from __future__ import annotations

from dataclasses import dataclass

from ..message import Clause
from .base import Grammar, Telling


@dataclass(frozen=True)
class Noun:
    """A noun.

    Attributes:
        gender: 'm', 'f' or 'n'.
        singular: nominative and accusative singular.
        plural: nominative and accusative plural.
        dative: dative singular, where it is not the nominative.
        small: a diminutive, which nothing large is called.
    """

    gender: str
    singular: str
    plural: str
    dative: str = ""
    small: bool = False

    def form(self, case: str, *, plural: bool) -> str:
        """The noun in a case ('nom', 'acc' or 'dat')."""
        if not plural:
            return self.dative if case == "dat" and self.dative else self.singular
        return self.plural + "n" if case == "dat" and not self.plural.endswith("n") else self.plural


NOUNS: dict[str, tuple[Noun, ...]] = {
    "circle": (Noun("m", "Kreis", "Kreise"), Noun("f", "Scheibe", "Scheiben")),
    "square": (Noun("n", "Quadrat", "Quadrate"), Noun("n", "Viereck", "Vierecke")),
    "triangle": (Noun("n", "Dreieck", "Dreiecke"),),
    "star": (Noun("m", "Stern", "Sterne"), Noun("n", "Sternchen", "Sternchen", small=True)),
    "heart": (Noun("n", "Herz", "Herzen", dative="Herzen"), Noun("n", "Herzchen", "Herzchen", small=True)),
    "diamond": (Noun("f", "Raute", "Rauten"), Noun("m", "Rhombus", "Rhomben")),
    "cross": (Noun("n", "Kreuz", "Kreuze"), Noun("n", "Pluszeichen", "Pluszeichen")),
    "ring": (Noun("m", "Ring", "Ringe"), Noun("m", "Reifen", "Reifen")),
    "moon": (Noun("m", "Mond", "Monde"), Noun("f", "Mondsichel", "Mondsicheln")),
    "flower": (Noun("f", "Blume", "Blumen"), Noun("f", "Blüte", "Blüten")),
    "house": (Noun("n", "Haus", "Häuser"), Noun("n", "Häuschen", "Häuschen", small=True)),
    "fish": (Noun("m", "Fisch", "Fische"),),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("rot", "knallrot"),
    "orange": ("orangefarben",),
    "yellow": ("gelb",),
    "green": ("grün",),
    "blue": ("blau",),
    "purple": ("lila", "violett"),
    "pink": ("rosa", "rosafarben"),
    "white": ("weiß",),
    "black": ("schwarz",),
}
INVARIABLE = {"lila", "rosa"}
SIZES: dict[str, tuple[str, ...]] = {"small": ("klein", "winzig"), "large": ("groß", "riesig")}
# An adjective before the colour, or a phrase after the noun.
TEXTURES: dict[str, tuple[tuple[str, str], ...]] = {
    "striped": (("gestreift", ""), ("", "mit Streifen")),
    "dotted": (("gepunktet", ""), ("", "mit Punkten"), ("getupft", "")),
    "checked": (("kariert", ""), ("", "mit Karomuster")),
}
NUMBERS = {2: "zwei", 3: "drei"}
# All of them govern the dative.
RELATIONS: dict[str, tuple[str, ...]] = {
    "left_of": ("links von", "links neben", "auf der linken Seite von"),
    "right_of": ("rechts von", "rechts neben", "auf der rechten Seite von"),
    "above": ("über", "oberhalb von"),
    "below": ("unter", "unterhalb von"),
    "in_front_of": ("vor", "direkt vor"),
    "behind": ("hinter", "gleich hinter"),
    "inside": ("in", "innerhalb von", "mitten in"),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("am Himmel", "vor blauem Himmel"),
    "grass": ("auf dem Gras", "auf einer grünen Wiese", "auf dem Rasen"),
    "sand": ("auf dem Sand", "am Strand"),
    "night": ("bei Nacht", "unter dem Nachthimmel", "im Dunkeln"),
    "sunset": ("bei Sonnenuntergang", "im Abendlicht", "in der Abenddämmerung"),
    "sea": ("auf dem Meer", "auf dem Wasser"),
    "snow": ("im Schnee", "auf verschneitem Boden"),
    "wall": ("vor einer Ziegelmauer", "vor einer Backsteinmauer"),
}
TERSE_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("Himmel",),
    "grass": ("Gras", "Wiese"),
    "sand": ("Sand", "Strand"),
    "night": ("Nacht",),
    "sunset": ("Sonnenuntergang", "Abendlicht"),
    "sea": ("Meer", "Wasser"),
    "snow": ("Schnee",),
    "wall": ("Ziegelmauer", "Backsteine"),
}

INDEFINITE = {
    "nom": {"m": "ein", "f": "eine", "n": "ein"},
    "acc": {"m": "einen", "f": "eine", "n": "ein"},
    "dat": {"m": "einem", "f": "einer", "n": "einem"},
}
DEFINITE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
# Adjective endings without article (strong), after 'ein' (mixed) and after 'der' (weak); 'p' is the plural.
ENDINGS = {
    "strong": {
        "nom": {"m": "er", "f": "e", "n": "es", "p": "e"},
        "acc": {"m": "en", "f": "e", "n": "es", "p": "e"},
        "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
    },
    "mixed": {
        "nom": {"m": "er", "f": "e", "n": "es"},
        "acc": {"m": "en", "f": "e", "n": "es"},
        "dat": {"m": "en", "f": "en", "n": "en"},
    },
    "weak": {
        "nom": {"m": "e", "f": "e", "n": "e", "p": "en"},
        "acc": {"m": "en", "f": "e", "n": "e", "p": "en"},
        "dat": {"m": "en", "f": "en", "n": "en", "p": "en"},
    },
}


def inflect(adjective: str, declension: str, case: str, gender: str) -> str:
    """An adjective with its ending.

    Args:
        adjective: the stem.
        declension: 'strong', 'mixed' or 'weak'.
        case: 'nom', 'acc' or 'dat'.
        gender: 'm', 'f', 'n', or 'p' for the plural.
    """
    return adjective if adjective in INVARIABLE else adjective + ENDINGS[declension][case][gender]


class German(Grammar):
    """German."""

    language = "de"
    conjunction = "und"

    def noun(self, telling: Telling, index: int) -> Noun:
        """The noun for a thing; no diminutive for a large one."""
        mention = telling.message.things[index]
        return telling.noun(index, [n for n in NOUNS[mention.shape] if not (n.small and mention.size == "large")])

    def thing(self, telling: Telling, index: int, case: str = "nom", *, bare: bool = False) -> str:
        """See `Grammar.thing`; `bare` leaves the article out."""
        mention, voice, noun = telling.message.things[index], telling.voice, self.noun(telling, index)
        plural = mention.count > 1
        gender = "p" if plural else noun.gender
        if telling.introduce(index):
            declension = "strong" if bare or plural else "mixed"
            article = NUMBERS[mention.count] if plural else "" if bare else INDEFINITE[case][gender]
            before, after = voice.word(TEXTURES[mention.texture]) if mention.texture else ("", "")
            size = voice.word(SIZES[mention.size]) if mention.size else ""
            stems = [size, before, voice.word(COLOURS[mention.colour])]
        else:
            declension, after = ("strong" if bare else "weak"), ""
            article = "" if bare else DEFINITE[case][gender]
            stems = [COLOURS[mention.colour][0]] if not voice.frame((True, False)) else []
        adjectives = [inflect(stem, declension, case, gender) for stem in stems if stem]
        return " ".join(part for part in (article, *adjectives, noun.form(case, plural=plural), after) if part)

    def place(self, telling: Telling, clause: Clause, *, bare: bool = False) -> str:
        """See `Grammar.place`."""
        if clause.kind is None or clause.anchor is None:
            return ""
        preposition = telling.voice.word(RELATIONS[clause.kind])
        phrase = f"{preposition} {self.thing(telling, clause.anchor, 'dat', bare=bare)}"
        return phrase.replace("von dem ", "vom ").replace("in dem ", "im ")

    def background(self, telling: Telling) -> str:
        """The background as an adverbial, or nothing."""
        name = telling.message.background
        return telling.voice.word(BACKGROUNDS[name]) if name else ""

    def plural(self, telling: Telling, clause: Clause | None = None) -> bool:
        """Whether a clause's subject is plural; without a clause, whether the verb before all statements is."""
        clauses = telling.message.clauses
        number = telling.message.things[(clause or clauses[0]).subject].count
        return number > 1 or (clause is None and len(clauses) > 1)

    def plain(self, telling: Telling) -> str:
        """See `Grammar.plain`."""
        return f"{self.join(self.statements(telling))} {self.background(telling)}".strip() + "."

    def terse(self, telling: Telling) -> str:
        """See `Grammar.terse`."""
        parts = []
        for clause in telling.message.clauses:
            subject = self.thing(telling, clause.subject, bare=True)
            parts.append(f"{subject} {self.place(telling, clause, bare=True)}".strip())
        if telling.message.background:
            parts.append(telling.voice.word(TERSE_BACKGROUNDS[telling.message.background]))
        return ", ".join(parts)

    def wordy(self, telling: Telling) -> str:
        """See `Grammar.wordy`."""
        voice, sentences = telling.voice, []
        for number, clause in enumerate(telling.message.clauses):
            start = (
                ("das Bild zeigt", "auf dem Bild sieht man") if number == 0 else ("außerdem sieht man", "dazu gibt es")
            )
            sentence = f"{voice.frame(start)} {self.thing(telling, clause.subject, 'acc')}"
            if place := self.place(telling, clause):
                plural = self.plural(telling, clause)
                pronoun = "die" if plural else DEFINITE["nom"][self.noun(telling, clause.subject).gender]
                verbs = ("{} liegen", "{} zu sehen sind", "sich {} befinden")
                verbs = verbs if plural else ("{} liegt", "{} zu sehen ist", "sich {} befindet")
                sentence += f", {pronoun} {voice.frame(verbs).format(place)}"
            sentences.append(sentence)
        if background := self.background(telling):
            sentences.append(voice.frame(("alles spielt sich {} ab", "die ganze Szene spielt {}")).format(background))
        return ". ".join(sentences) + "."

    def inverted(self, telling: Telling) -> str:
        """See `Grammar.inverted`."""
        background, parts = self.background(telling), []
        for number, clause in enumerate(telling.message.clauses):
            place = self.place(telling, clause)
            first = background if number == 0 else ""
            second = place if first else ""
            verb = telling.voice.frame(("sind", "liegen") if self.plural(telling, clause) else ("ist", "liegt"))
            subject = self.thing(telling, clause.subject)
            words = (first or place or ("hier" if number == 0 else "daneben"), verb, second, subject)
            parts.append(" ".join(word for word in words if word))
        return self.join(parts) + "."

    def existential(self, telling: Telling) -> str:
        """See `Grammar.existential`."""
        be = "sind" if self.plural(telling) else "ist"
        openings = (("es gibt", "acc"), ("man sieht", "acc"), ("zu sehen " + be, "nom"), ("da " + be, "nom"))
        opening, case = telling.voice.frame(openings)
        return f"{opening} {self.join(self.statements(telling, case))} {self.background(telling)}".strip() + "."

    def passive(self, telling: Telling) -> str:
        """See `Grammar.passive`."""
        parts = []
        for number, clause in enumerate(telling.message.clauses):
            verb = "wurden" if self.plural(telling, clause) else "wurde"
            subject = self.thing(telling, clause.subject)
            background = self.background(telling) if number == 0 else ""
            place = self.place(telling, clause)
            participle = telling.voice.frame(
                ("gemalt", "gezeichnet", "platziert") if place else ("gemalt", "gezeichnet")
            )
            words = (subject, verb, background, place, participle)
            parts.append(" ".join(word for word in words if word))
        return self.join(parts) + "."

    def query(self, telling: Telling) -> str:
        """See `Grammar.query`."""
        be = "sind" if self.plural(telling) else "ist"
        frames = (
            ("Bild mit {}", "dat"),
            ("suche {}", "acc"),
            ("wo " + be + " {} zu sehen?", "nom"),
            ("zeig mir {}", "acc"),
            ("Foto von {}", "dat"),
        )
        frame, case = telling.voice.frame(frames)
        return frame.format(f"{self.join(self.statements(telling, case))} {self.background(telling)}".strip())
