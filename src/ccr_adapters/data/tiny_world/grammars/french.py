"""French captions: two genders, agreement, elision and contraction, sizes before the noun and colours after it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..message import Clause
from .base import Grammar, Telling


@dataclass(frozen=True)
class Noun:
    """A noun.

    Attributes:
        gender: 'm' or 'f'.
        singular: the singular.
        plural: the plural.
        small: a diminutive, which nothing large is called.
    """

    gender: str
    singular: str
    plural: str
    small: bool = False


NOUNS: dict[str, tuple[Noun, ...]] = {
    "circle": (Noun("m", "cercle", "cercles"), Noun("m", "rond", "ronds"), Noun("m", "disque", "disques")),
    "square": (Noun("m", "carré", "carrés"),),
    "triangle": (Noun("m", "triangle", "triangles"),),
    "star": (Noun("f", "étoile", "étoiles"),),
    "heart": (Noun("m", "cœur", "cœurs"),),
    "diamond": (Noun("m", "losange", "losanges"),),
    "cross": (Noun("f", "croix", "croix"), Noun("m", "signe plus", "signes plus")),
    "ring": (Noun("m", "anneau", "anneaux"), Noun("f", "bague", "bagues", small=True)),
    "moon": (Noun("f", "lune", "lunes"), Noun("m", "croissant de lune", "croissants de lune")),
    "flower": (Noun("f", "fleur", "fleurs"), Noun("f", "fleurette", "fleurettes", small=True)),
    "house": (Noun("f", "maison", "maisons"), Noun("f", "maisonnette", "maisonnettes", small=True)),
    "fish": (Noun("m", "poisson", "poissons"),),
}
# Masculine and feminine singular; one form alone is invariable.
COLOURS: dict[str, tuple[tuple[str, ...], ...]] = {
    "red": (("rouge", "rouge"), ("écarlate", "écarlate")),
    "orange": (("orange",), ("orangé", "orangée")),
    "yellow": (("jaune", "jaune"),),
    "green": (("vert", "verte"),),
    "blue": (("bleu", "bleue"),),
    "purple": (("violet", "violette"), ("mauve", "mauve")),
    "pink": (("rose", "rose"),),
    "white": (("blanc", "blanche"),),
    "black": (("noir", "noire"),),
}
SIZES: dict[str, tuple[tuple[str, ...], ...]] = {
    "small": (("petit", "petite"), ("minuscule", "minuscule")),
    "large": (("grand", "grande"), ("gros", "grosse"), ("énorme", "énorme")),
}
TEXTURES: dict[str, tuple[tuple[str, ...], ...]] = {
    "striped": (("rayé", "rayée"), ("à rayures",)),
    "dotted": (("à pois",), ("tacheté", "tachetée")),
    "checked": (("à carreaux",), ("quadrillé", "quadrillée")),
}
NUMBERS = {2: "deux", 3: "trois"}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left_of": ("à gauche de", "sur la gauche de", "du côté gauche de"),
    "right_of": ("à droite de", "sur la droite de", "du côté droit de"),
    "above": ("au-dessus de", "juste au-dessus de"),
    "below": ("au-dessous de", "sous", "en dessous de"),
    "in_front_of": ("devant", "juste devant"),
    "behind": ("derrière", "juste derrière"),
    "inside": ("dans", "à l'intérieur de", "au milieu de"),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("dans le ciel", "sur fond de ciel bleu"),
    "grass": ("sur l'herbe", "dans un pré vert", "sur la pelouse"),
    "sand": ("sur le sable", "à la plage"),
    "night": ("la nuit", "sous un ciel nocturne", "dans l'obscurité"),
    "sunset": ("au coucher du soleil", "dans la lumière du soir", "au crépuscule"),
    "sea": ("sur la mer", "sur l'eau"),
    "snow": ("dans la neige", "sur un sol enneigé"),
    "wall": ("devant un mur de briques", "contre un mur de briques"),
}
TERSE_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("ciel",),
    "grass": ("herbe", "pré"),
    "sand": ("sable", "plage"),
    "night": ("nuit",),
    "sunset": ("coucher de soleil", "crépuscule"),
    "sea": ("mer", "eau"),
    "snow": ("neige",),
    "wall": ("mur de briques", "briques"),
}
_CONTRACTIONS = ((r"\bde (une?)\b", r"d'\1"), (r"\bde le ", "du "), (r"\bde les ", "des "))


def agree(adjective: tuple[str, ...], gender: str, *, plural: bool) -> str:
    """An adjective in its form for a gender and number; one given in a single form never changes."""
    if len(adjective) == 1:
        return adjective[0]
    form = adjective[gender == "f"]
    return form + "s" if plural and not form.endswith(("s", "x")) else form


def contract(phrase: str) -> str:
    """Elide and contract 'de' before an article: d'un, d'une, du, des."""
    for pattern, replacement in _CONTRACTIONS:
        phrase = re.sub(pattern, replacement, phrase)
    return phrase


class French(Grammar):
    """French."""

    language = "fr"
    conjunction = "et"

    def noun(self, telling: Telling, index: int) -> Noun:
        """The noun for a thing; no diminutive for a large one."""
        mention = telling.message.things[index]
        return telling.noun(index, [n for n in NOUNS[mention.shape] if not (n.small and mention.size == "large")])

    def thing(self, telling: Telling, index: int, case: str = "nom") -> str:
        """See `Grammar.thing`; the case 'bare' means: without article."""
        mention, voice, noun = telling.message.things[index], telling.voice, self.noun(telling, index)
        plural = mention.count > 1
        word = noun.plural if plural else noun.singular
        if telling.introduce(index):
            indefinite = "" if case == "bare" else "une" if noun.gender == "f" else "un"
            size = agree(voice.word(SIZES[mention.size]), noun.gender, plural=plural) if mention.size else ""
            colour = agree(voice.word(COLOURS[mention.colour]), noun.gender, plural=plural)
            texture = (
                agree(voice.word(TEXTURES[mention.texture]), noun.gender, plural=plural) if mention.texture else ""
            )
            words = (NUMBERS[mention.count] if plural else indefinite, size, word, colour, texture)
            return " ".join(part for part in words if part)
        colour = agree(COLOURS[mention.colour][0], noun.gender, plural=plural)
        short = word if voice.frame((True, False)) else f"{word} {colour}"
        if case == "bare":
            return short
        if not plural and word[0] in "aeéio":
            return f"l'{short}"
        article = "les" if plural else "la" if noun.gender == "f" else "le"
        return f"{article} {short}"

    def place(self, telling: Telling, clause: Clause) -> str:
        """See `Grammar.place`."""
        if clause.kind is None or clause.anchor is None:
            return ""
        preposition = telling.voice.word(RELATIONS[clause.kind])
        return contract(f"{preposition} {self.thing(telling, clause.anchor)}")

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
        """See `Grammar.terse`; only the anchors keep their articles, as prepositions need them."""
        parts = self.statements(telling, "bare")
        if telling.message.background:
            parts.append(telling.voice.word(TERSE_BACKGROUNDS[telling.message.background]))
        return ", ".join(parts)

    def wordy(self, telling: Telling) -> str:
        """See `Grammar.wordy`."""
        voice, sentences = telling.voice, []
        for number, clause in enumerate(telling.message.clauses):
            start = (
                ("l'image montre", "sur cette image on voit") if number == 0 else ("on voit aussi", "il y a également")
            )
            sentence = f"{voice.frame(start)} {self.thing(telling, clause.subject)}"
            if place := self.place(telling, clause):
                verbs = (
                    ("qui se trouvent", "qui sont") if self.plural(telling, clause) else ("qui se trouve", "qui est")
                )
                sentence += f" {voice.frame(verbs)} {place}"
            sentences.append(sentence)
        if background := self.background(telling):
            sentences.append(f"{voice.frame(('toute la scène se passe', 'le tout se situe'))} {background}")
        return ". ".join(sentences) + "."

    def inverted(self, telling: Telling) -> str:
        """See `Grammar.inverted`."""
        background, parts = self.background(telling), []
        for number, clause in enumerate(telling.message.clauses):
            place = self.place(telling, clause)
            start = ", ".join(part for part in (background if number == 0 else "", place) if part)
            be = "se trouvent" if self.plural(telling, clause) else "se trouve"
            verb = telling.voice.frame((be, "on voit", "il y a"))
            parts.append(
                f"{start + ',' if start and verb != be else start or 'ici'} {verb} {self.thing(telling, clause.subject)}"
            )
        return self.join(parts) + "."

    def existential(self, telling: Telling) -> str:
        """See `Grammar.existential`."""
        opening = telling.voice.frame(("il y a", "on voit", "voici"))
        return f"{opening} {self.join(self.statements(telling))} {self.background(telling)}".strip() + "."

    def passive(self, telling: Telling) -> str:
        """See `Grammar.passive`."""
        parts = []
        for number, clause in enumerate(telling.message.clauses):
            plural = self.plural(telling, clause)
            subject, place = self.thing(telling, clause.subject), self.place(telling, clause)
            stems = (("dessiné", "dessinée"), ("peint", "peinte"), ("placé", "placée"))
            stem = telling.voice.frame(stems if place else stems[:2])
            participle = agree(stem, self.noun(telling, clause.subject).gender, plural=plural)
            background = self.background(telling) if number == 0 else ""
            words = (subject, "ont été" if plural else "a été", participle, place, background)
            parts.append(" ".join(word for word in words if word))
        return self.join(parts) + "."

    def query(self, telling: Telling) -> str:
        """See `Grammar.query`."""
        be = "se trouvent" if self.plural(telling) else "se trouve"
        frames = ("image avec {}", "je cherche {}", f"où {be} {{}} ?", "montre-moi {}", "photo avec {}")
        frame = telling.voice.frame(frames)
        return frame.format(f"{self.join(self.statements(telling))} {self.background(telling)}".strip())
