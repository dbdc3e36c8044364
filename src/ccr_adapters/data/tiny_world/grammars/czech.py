"""Czech captions: three genders, five of the seven cases, numerals that agree, prepositions that govern and vocalise."""

from __future__ import annotations

from ..message import Clause
from .base import Grammar, Telling
from .czech_lexicon import (
    ADJECTIVE_ENDINGS,
    BACKGROUNDS,
    COLOURS,
    NOUNS,
    NUMERALS,
    RELATIONS,
    SIZES,
    TERSE_BACKGROUNDS,
    TEXTURES,
    Noun,
)

# Who is told of in a relative clause, and what a past participle ends in, by gender; 'p' marks the plural.
RELATIVE = {"m": "který", "f": "která", "n": "které", "mp": "které", "fp": "které", "np": "která"}
PAST = {"m": "", "f": "a", "n": "o", "mp": "y", "fp": "y", "np": "a"}


def inflect(adjective: str, case: str, gender: str, *, plural: bool) -> str:
    """A hard adjective, given as masculine nominative in -ý, in another form."""
    return adjective[:-1] + ADJECTIVE_ENDINGS[case][gender + "p" if plural else gender]


def vocalise(preposition: str, phrase: str) -> str:
    """Put 's' or 'v' before a phrase, as 'se' or 've' where the next sound asks for it; others stay as they are."""
    if preposition == "s" and phrase.startswith(("s", "z", "š", "ž", "dv", "tř", "čt")):
        preposition = "se"
    elif preposition == "v" and phrase.startswith(("v", "f", "ž", "dv", "tř", "čt")):
        preposition = "ve"
    return f"{preposition} {phrase}"


class Czech(Grammar):
    """Czech."""

    language = "cs"
    conjunction = "a"

    def noun(self, telling: Telling, index: int) -> Noun:
        """The noun for a thing; no diminutive for a large one."""
        mention = telling.message.things[index]
        return telling.noun(index, [n for n in NOUNS[mention.shape] if not (n.small and mention.size == "large")])

    def thing(self, telling: Telling, index: int, case: str = "nom") -> str:
        """See `Grammar.thing`; the cases are nom, gen, acc, loc and ins. There are no articles."""
        mention, voice, noun = telling.message.things[index], telling.voice, self.noun(telling, index)
        plural = mention.count > 1
        word = noun.form(case, plural=plural)
        if telling.introduce(index):
            before, after = voice.word(TEXTURES[mention.texture]) if mention.texture else ("", "")
            size = voice.word(SIZES[mention.size]) if mention.size else ""
            number = NUMERALS[mention.count][case][noun.gender] if plural else ""
            adjectives = [size, before, voice.word(COLOURS[mention.colour])]
        else:
            number, after = "", ""
            adjectives = [] if voice.frame((True, False)) else [COLOURS[mention.colour][0]]
        forms = [inflect(adjective, case, noun.gender, plural=plural) for adjective in adjectives if adjective]
        return " ".join(part for part in (number, *forms, word, after) if part)

    def place(self, telling: Telling, clause: Clause) -> str:
        """See `Grammar.place`."""
        if clause.kind is None or clause.anchor is None:
            return ""
        preposition, case = telling.voice.word(RELATIONS[clause.kind])
        return vocalise(preposition, self.thing(telling, clause.anchor, case))

    def background(self, telling: Telling) -> str:
        """The background as an adverbial, or nothing."""
        name = telling.message.background
        return telling.voice.word(BACKGROUNDS[name]) if name else ""

    def agreement(self, telling: Telling, clause: Clause) -> str:
        """Gender and number of a clause's subject, as the keys of `RELATIVE` and `PAST`."""
        plural = telling.message.things[clause.subject].count > 1
        return self.noun(telling, clause.subject).gender + ("p" if plural else "")

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
        for number, clause in enumerate(telling.message.clauses):
            start = (
                ("obrázek ukazuje", "na obrázku vidíme")
                if number == 0
                else ("dále vidíme", "kromě toho obrázek ukazuje")
            )
            sentence = f"{voice.frame(start)} {self.thing(telling, clause.subject, 'acc')}"
            if place := self.place(telling, clause):
                agreement = self.agreement(telling, clause)
                verbs = ("jsou", "leží", "se nacházejí") if agreement.endswith("p") else ("je", "leží", "se nachází")
                sentence += f", {RELATIVE[agreement]} {voice.frame(verbs)} {place}"
            sentences.append(sentence)
        if background := self.background(telling):
            sentences.append(f"{voice.frame(('vše se odehrává', 'celá scéna je'))} {background}")
        return ". ".join(sentences) + "."

    def inverted(self, telling: Telling) -> str:
        """See `Grammar.inverted`."""
        background, parts = self.background(telling), []
        for number, clause in enumerate(telling.message.clauses):
            place = self.place(telling, clause)
            first = background if number == 0 else ""
            plural = self.agreement(telling, clause).endswith("p")
            verb = telling.voice.frame(("jsou", "leží", "se nacházejí") if plural else ("je", "leží", "se nachází"))
            subject = self.thing(telling, clause.subject)
            words = (first or place or ("zde" if number == 0 else "vedle"), verb, place if first else "", subject)
            parts.append(" ".join(word for word in words if word))
        return self.join(parts) + "."

    def existential(self, telling: Telling) -> str:
        """See `Grammar.existential`; a verb before several subjects agrees with the first of them."""
        be = "jsou" if self.agreement(telling, telling.message.clauses[0]).endswith("p") else "je"
        openings = ((f"{be} tu", "nom"), ("vidím", "acc"), (f"{be} vidět", "nom"), ("můžeme vidět", "acc"))
        opening, case = telling.voice.frame(openings)
        return f"{opening} {self.join(self.statements(telling, case))} {self.background(telling)}".strip() + "."

    def passive(self, telling: Telling) -> str:
        """See `Grammar.passive`."""
        parts = []
        for number, clause in enumerate(telling.message.clauses):
            ending = PAST[self.agreement(telling, clause)]
            subject, place = self.thing(telling, clause.subject), self.place(telling, clause)
            participle = telling.voice.frame(
                ("namalován", "nakreslen", "umístěn") if place else ("namalován", "nakreslen")
            )
            background = self.background(telling) if number == 0 else ""
            words = (subject, "byl" + ending, background, participle + ending, place)
            parts.append(" ".join(word for word in words if word))
        return self.join(parts) + "."

    def query(self, telling: Telling) -> str:
        """See `Grammar.query`."""
        be = "jsou" if self.agreement(telling, telling.message.clauses[0]).endswith("p") else "je"
        frames = (("obrázek", "ins"), ("hledám", "acc"), (f"kde {be}", "nom"), ("ukaž mi", "acc"), ("fotka", "ins"))
        opening, case = telling.voice.frame(frames)
        phrase = f"{self.join(self.statements(telling, case))} {self.background(telling)}".strip()
        if case == "ins":
            phrase = vocalise("s", phrase)
        return f"{opening} {phrase}{'?' if case == 'nom' else ''}"
