"""The Czech lexicon: full paradigms, as data."""

from __future__ import annotations

from dataclasses import dataclass

CASES = ("nom", "gen", "acc", "loc", "ins")


@dataclass(frozen=True)
class Noun:
    """A noun.

    Attributes:
        gender: 'm' (inanimate), 'f' or 'n'.
        singular: the forms in the order of `CASES`.
        plural: the forms in the order of `CASES`.
        small: a diminutive, which nothing large is called.
    """

    gender: str
    singular: tuple[str, str, str, str, str]
    plural: tuple[str, str, str, str, str]
    small: bool = False

    def form(self, case: str, *, plural: bool) -> str:
        """The noun in one of `CASES`."""
        return (self.plural if plural else self.singular)[CASES.index(case)]


def _noun(gender: str, singular: str, plural: str, *, small: bool = False) -> Noun:
    nom, gen, acc, loc, ins = singular.split()
    nom_p, gen_p, acc_p, loc_p, ins_p = plural.split()
    return Noun(gender, (nom, gen, acc, loc, ins), (nom_p, gen_p, acc_p, loc_p, ins_p), small)


NOUNS: dict[str, tuple[Noun, ...]] = {
    "circle": (
        _noun("m", "kruh kruhu kruh kruhu kruhem", "kruhy kruhů kruhy kruzích kruhy"),
        _noun("n", "kolo kola kolo kole kolem", "kola kol kola kolech koly"),
    ),
    "square": (
        _noun("m", "čtverec čtverce čtverec čtverci čtvercem", "čtverce čtverců čtverce čtvercích čtverci"),
        _noun(
            "m",
            "čtvereček čtverečku čtvereček čtverečku čtverečkem",
            "čtverečky čtverečků čtverečky čtverečcích čtverečky",
            small=True,
        ),
    ),
    "triangle": (
        _noun(
            "m",
            "trojúhelník trojúhelníku trojúhelník trojúhelníku trojúhelníkem",
            "trojúhelníky trojúhelníků trojúhelníky trojúhelnících trojúhelníky",
        ),
    ),
    "star": (
        _noun("f", "hvězda hvězdy hvězdu hvězdě hvězdou", "hvězdy hvězd hvězdy hvězdách hvězdami"),
        _noun(
            "f",
            "hvězdička hvězdičky hvězdičku hvězdičce hvězdičkou",
            "hvězdičky hvězdiček hvězdičky hvězdičkách hvězdičkami",
            small=True,
        ),
    ),
    "heart": (
        _noun("n", "srdce srdce srdce srdci srdcem", "srdce srdcí srdce srdcích srdci"),
        _noun(
            "n",
            "srdíčko srdíčka srdíčko srdíčku srdíčkem",
            "srdíčka srdíček srdíčka srdíčkách srdíčky",
            small=True,
        ),
    ),
    "diamond": (
        _noun(
            "m",
            "kosočtverec kosočtverce kosočtverec kosočtverci kosočtvercem",
            "kosočtverce kosočtverců kosočtverce kosočtvercích kosočtverci",
        ),
        _noun("m", "diamant diamantu diamant diamantu diamantem", "diamanty diamantů diamanty diamantech diamanty"),
    ),
    "cross": (
        _noun("m", "kříž kříže kříž kříži křížem", "kříže křížů kříže křížích kříži"),
        _noun("m", "křížek křížku křížek křížku křížkem", "křížky křížků křížky křížcích křížky", small=True),
    ),
    "ring": (
        _noun("m", "prsten prstenu prsten prstenu prstenem", "prsteny prstenů prsteny prstenech prsteny"),
        _noun("m", "kroužek kroužku kroužek kroužku kroužkem", "kroužky kroužků kroužky kroužcích kroužky", small=True),
    ),
    "moon": (
        _noun("m", "měsíc měsíce měsíc měsíci měsícem", "měsíce měsíců měsíce měsících měsíci"),
        _noun(
            "m",
            "půlměsíc půlměsíce půlměsíc půlměsíci půlměsícem",
            "půlměsíce půlměsíců půlměsíce půlměsících půlměsíci",
        ),
    ),
    "flower": (
        _noun("f", "květina květiny květinu květině květinou", "květiny květin květiny květinách květinami"),
        _noun("f", "kytka kytky kytku kytce kytkou", "kytky kytek kytky kytkách kytkami"),
    ),
    "house": (
        _noun("m", "dům domu dům domě domem", "domy domů domy domech domy"),
        _noun("m", "domek domku domek domku domkem", "domky domků domky domcích domky", small=True),
    ),
    "fish": (
        _noun("f", "ryba ryby rybu rybě rybou", "ryby ryb ryby rybách rybami"),
        _noun("f", "rybka rybky rybku rybce rybkou", "rybky rybek rybky rybkách rybkami", small=True),
    ),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("červený", "rudý"),
    "orange": ("oranžový",),
    "yellow": ("žlutý",),
    "green": ("zelený",),
    "blue": ("modrý",),
    "purple": ("fialový",),
    "pink": ("růžový",),
    "white": ("bílý",),
    "black": ("černý",),
}
SIZES: dict[str, tuple[str, ...]] = {"small": ("malý", "drobný"), "large": ("velký", "obrovský")}
# An adjective before the colour, or a phrase after the noun.
TEXTURES: dict[str, tuple[tuple[str, str], ...]] = {
    "striped": (("pruhovaný", ""), ("", "s pruhy"), ("proužkovaný", "")),
    "dotted": (("puntíkovaný", ""), ("", "s puntíky"), ("tečkovaný", "")),
    "checked": (("kostkovaný", ""), ("", "s kostkami"), ("károvaný", "")),
}

# Endings of hard adjectives by case and gender; 'p' marks the plural.
ADJECTIVE_ENDINGS: dict[str, dict[str, str]] = {
    "nom": {"m": "ý", "f": "á", "n": "é", "mp": "é", "fp": "é", "np": "á"},
    "gen": {"m": "ého", "f": "é", "n": "ého", "mp": "ých", "fp": "ých", "np": "ých"},
    "acc": {"m": "ý", "f": "ou", "n": "é", "mp": "é", "fp": "é", "np": "á"},
    "loc": {"m": "ém", "f": "é", "n": "ém", "mp": "ých", "fp": "ých", "np": "ých"},
    "ins": {"m": "ým", "f": "ou", "n": "ým", "mp": "ými", "fp": "ými", "np": "ými"},
}


def _numeral(nom: tuple[str, str, str], gen: str, loc: str, ins: str) -> dict[str, dict[str, str]]:
    by_gender = dict(zip("mfn", nom, strict=True))
    return {"nom": by_gender, "acc": by_gender} | {
        case: dict.fromkeys("mfn", form) for case, form in (("gen", gen), ("loc", loc), ("ins", ins))
    }


NUMERALS: dict[int, dict[str, dict[str, str]]] = {
    2: _numeral(("dva", "dvě", "dvě"), "dvou", "dvou", "dvěma"),
    3: _numeral(("tři", "tři", "tři"), "tří", "třech", "třemi"),
}
# Each preposition with the case it governs.
RELATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "left_of": (("nalevo od", "gen"), ("vlevo od", "gen"), ("po levé straně", "gen")),
    "right_of": (("napravo od", "gen"), ("vpravo od", "gen"), ("po pravé straně", "gen")),
    "above": (("nad", "ins"), ("přímo nad", "ins")),
    "below": (("pod", "ins"), ("přímo pod", "ins")),
    "in_front_of": (("před", "ins"), ("těsně před", "ins")),
    "behind": (("za", "ins"), ("těsně za", "ins")),
    "inside": (("uvnitř", "gen"), ("v", "loc"), ("uprostřed", "gen")),
}
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("na obloze", "na modrém nebi"),
    "grass": ("na trávě", "na zelené louce", "na trávníku"),
    "sand": ("na písku", "na pláži"),
    "night": ("v noci", "pod noční oblohou", "ve tmě"),
    "sunset": ("při západu slunce", "ve večerním světle", "za soumraku"),
    "sea": ("na moři", "na vodě"),
    "snow": ("ve sněhu", "na zasněžené zemi"),
    "wall": ("před cihlovou zdí", "u cihlové zdi"),
}
TERSE_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("obloha",),
    "grass": ("tráva", "louka"),
    "sand": ("písek", "pláž"),
    "night": ("noc",),
    "sunset": ("západ slunce", "soumrak"),
    "sea": ("moře", "voda"),
    "snow": ("sníh",),
    "wall": ("cihlová zeď", "cihly"),
}
