"""Chinese captions (simplified): a measure word for each noun, modifiers before it, places as 'at X's left side'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..message import Clause
from .base import Grammar, Telling


@dataclass(frozen=True)
class Noun:
    """A noun.

    Attributes:
        word: the noun.
        measure: the measure word that stands between a number and the noun.
        small: it says by itself that the thing is small.
    """

    word: str
    measure: str
    small: bool = False


NOUNS: dict[str, tuple[Noun, ...]] = {
    "circle": (Noun("圆形", "个"), Noun("圆圈", "个")),
    "square": (Noun("正方形", "个"), Noun("方块", "个")),
    "triangle": (Noun("三角形", "个"),),
    "star": (Noun("星星", "颗"), Noun("五角星", "颗")),
    "heart": (Noun("爱心", "颗"), Noun("心形", "个")),
    "diamond": (Noun("菱形", "个"),),
    "cross": (Noun("十字", "个"), Noun("十字形", "个")),
    "ring": (Noun("圆环", "个"), Noun("环", "个")),
    "moon": (Noun("月亮", "个"), Noun("月牙", "弯")),
    "flower": (Noun("花", "朵"), Noun("小花", "朵", small=True)),
    "house": (Noun("房子", "座"), Noun("房屋", "栋"), Noun("小屋", "间", small=True)),
    "fish": (Noun("鱼", "条"), Noun("小鱼", "条", small=True)),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("红色", "大红色"),
    "orange": ("橙色", "橘色"),
    "yellow": ("黄色",),
    "green": ("绿色", "翠绿色"),
    "blue": ("蓝色",),
    "purple": ("紫色",),
    "pink": ("粉色", "粉红色"),
    "white": ("白色",),
    "black": ("黑色",),
}
# Before everything else, or right before the noun.
SIZES: dict[str, tuple[tuple[str, str], ...]] = {
    "small": (("", "小"), ("小小的", "")),
    "large": (("", "大"), ("巨大的", ""), ("很大的", "")),
}
TEXTURES: dict[str, tuple[str, ...]] = {
    "striped": ("带条纹的", "有条纹的", "条纹图案的"),
    "dotted": ("带圆点的", "有斑点的", "波点图案的"),
    "checked": ("带格子的", "有方格的", "格子图案的"),
}
NUMBERS = {1: "一", 2: "两", 3: "三"}
SIDES: dict[str, tuple[str, ...]] = {
    "left_of": ("左边", "左侧"),
    "right_of": ("右边", "右侧"),
    "above": ("上面", "上方"),
    "below": ("下面", "下方"),
    "in_front_of": ("前面", "前方"),
    "behind": ("后面", "后方"),
    "inside": ("里面", "内部"),
}
# After 在, 'at'.
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("天空中", "蓝天上"),
    "grass": ("草地上", "草坪上"),
    "sand": ("沙子上", "沙滩上"),
    "night": ("夜晚", "夜空下", "黑夜里"),
    "sunset": ("日落时", "夕阳下", "黄昏时"),
    "sea": ("海上", "水面上"),
    "snow": ("雪中", "雪地上"),
    "wall": ("砖墙前", "砖墙前面"),
}
TERSE_BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "sky": ("天空", "蓝天"),
    "grass": ("草地",),
    "sand": ("沙滩", "沙子"),
    "night": ("夜晚", "夜空"),
    "sunset": ("日落", "黄昏"),
    "sea": ("大海", "水面"),
    "snow": ("雪地",),
    "wall": ("砖墙",),
}


class Chinese(Grammar):
    """Chinese; words are kept apart by spaces until `finish` closes them up."""

    language = "zh"
    conjunction = "和"

    def finish(self, words: Sequence[str]) -> str:
        """Join the words without spaces."""
        return "".join(words).strip("，")

    def thing(self, telling: Telling, index: int, case: str = "nom") -> str:
        """See `Grammar.thing`; the case 'bare' leaves out 'one' with its measure word."""
        mention, voice = telling.message.things[index], telling.voice
        # 'small small-fish' and 'large small-fish' are both odd: such nouns stand only where no size is told.
        noun = telling.noun(index, [n for n in NOUNS[mention.shape] if not (n.small and mention.size)])
        counted = NUMBERS[mention.count] + noun.measure
        if telling.introduce(index):
            number = "" if case == "bare" and mention.count == 1 else counted
            far, near = voice.word(SIZES[mention.size]) if mention.size else ("", "")
            texture = voice.word(TEXTURES[mention.texture]) if mention.texture else ""
            # 的 after every modifier is stiff: it goes after another one, and people often leave it out.
            closed = len(near + noun.word) > 1 and voice.frame((bool(texture or far), True))
            colour = voice.word(COLOURS[mention.colour]) + ("" if closed else "的")
            words: tuple[str, ...] = (number, far, texture, colour, near, noun.word)
        else:
            that = f"那{counted}" if mention.count > 1 else f"那{noun.measure}"
            colour = COLOURS[mention.colour][0] + "的"
            words = voice.frame(((noun.word,), (that, noun.word), (colour, noun.word)))
        return " ".join(word for word in words if word)

    def side(self, telling: Telling, clause: Clause, case: str = "nom") -> str:
        """A place as a noun phrase, 'X's left side'; empty if the clause does not say."""
        if clause.kind is None or clause.anchor is None:
            return ""
        link = "" if case == "bare" else telling.voice.frame(("的", ""))
        return f"{self.thing(telling, clause.anchor, case)} {link} {telling.voice.word(SIDES[clause.kind])}"

    def place(self, telling: Telling, clause: Clause) -> str:
        """See `Grammar.place`."""
        side = self.side(telling, clause)
        return f"在 {side}" if side else ""

    def background(self, telling: Telling) -> str:
        """The background as a noun phrase of place or time, or nothing."""
        name = telling.message.background
        return telling.voice.word(BACKGROUNDS[name]) if name else ""

    def plain(self, telling: Telling) -> str:
        """See `Grammar.plain`."""
        background = self.background(telling)
        return "， ".join([*self.statements(telling), *([f"在 {background}"] if background else [])]) + "。"

    def terse(self, telling: Telling) -> str:
        """See `Grammar.terse`: the place is a modifier, 'house's left side's star'."""
        parts = []
        for clause in telling.message.clauses:
            side = self.side(telling, clause, "bare")
            subject = self.thing(telling, clause.subject, "bare")
            parts.append(f"{side} 的 {subject}" if side else subject)
        if telling.message.background:
            parts.append(telling.voice.word(TERSE_BACKGROUNDS[telling.message.background]))
        return "， ".join(parts)

    def wordy(self, telling: Telling) -> str:
        """See `Grammar.wordy`."""
        voice, sentences = telling.voice, []
        for number, clause in enumerate(telling.message.clauses):
            start = ("这张 图片 里 有", "图片 中 可以 看到") if number == 0 else ("此外 还有", "另外 还 可以 看到")
            sentence = f"{voice.frame(start)} {self.thing(telling, clause.subject)}"
            if side := self.side(telling, clause):
                pronoun = "它们" if telling.message.things[clause.subject].count > 1 else "它"
                sentence += f"， {pronoun} {voice.frame(('位于', '在'))} {side}"
            sentences.append(sentence)
        if telling.message.background:
            sentences.append(f"画面 的 背景 是 {voice.word(TERSE_BACKGROUNDS[telling.message.background])}")
        return "。 ".join(sentences) + "。"

    def inverted(self, telling: Telling) -> str:
        """See `Grammar.inverted`."""
        parts = [self.background(telling)]
        for clause in telling.message.clauses:
            side = self.side(telling, clause)
            verb = telling.voice.frame(("有", "是")) if side else "有"
            parts.append(f"{side} {verb} {self.thing(telling, clause.subject)}".strip())
        return "， ".join(part for part in parts if part) + "。"

    def existential(self, telling: Telling) -> str:
        """See `Grammar.existential`."""
        background, parts = self.background(telling), []
        for number, clause in enumerate(telling.message.clauses):
            opening = telling.voice.frame(("有", "可以 看到")) if number == 0 else "还有"
            parts.append(f"{opening} {self.statement(telling, clause)}")
        return f"{background} {'， '.join(parts)}。".strip()

    def passive(self, telling: Telling) -> str:
        """See `Grammar.passive`."""
        background, parts = self.background(telling), []
        for clause in telling.message.clauses:
            subject = self.thing(telling, clause.subject)
            verb = telling.voice.frame(("被 画在", "被 放在"))
            parts.append(f"{subject} {verb} {self.side(telling, clause) or '画面 里'}")
        return "， ".join(part for part in (background, *parts) if part) + "。"

    def query(self, telling: Telling) -> str:
        """See `Grammar.query`."""
        background = self.background(telling)
        content = "， ".join([*self.statements(telling), *([f"在 {background}"] if background else [])])
        frames = ("{} 的 图片", "找 一张 图： {}", "哪张 图片 里 有 {}？", "请 给 我 看 {}", "搜索 {}")
        return telling.voice.frame(frames).format(content)
