"""Chinese: measure words and the order of modifiers, against phrases written by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.data.tiny_world.grammars import grammar_for


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("star", "red", "small"), "一颗 红色的 小 星星"),
        (("fish", "yellow"), "一条 黄色的 鱼"),
        (("house", "blue", "large"), "一座 蓝色的 大 房子"),
        (("flower", "white", None, "striped"), "一朵 带条纹的 白色的 花"),
        (("circle", "green", None, "dotted"), "一个 带圆点的 绿色 圆形"),
        (("fish", "black", "small", None, 2), "两条 黑色的 小 鱼"),
        (("heart", "purple", None, "checked", 3), "三颗 带格子的 紫色 爱心"),
    ],
)
def test_measure_words_and_order(phrase, arguments, expected):
    assert phrase("zh", *arguments) == expected


def test_places(place):
    assert place("zh", "left_of", "house", "blue").split() == ["在", "一座", "蓝色的", "房子", "的", "左边"]


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (
            "plain",
            "一颗红色的小星星在一座蓝色的大房子的左边，两条带条纹的绿色的鱼在房子的上面，在草地上。",
        ),
        ("terse", "蓝色的大房子左边的红色的小星星，房子上面的两条带条纹的绿色的鱼，草地"),
        (
            "wordy",
            "这张图片里有一颗红色的小星星，它位于一座蓝色的大房子的左边。此外还有两条带条纹的绿色的鱼，它们位于房子的上面。画面的背景是草地。",
        ),
        ("inverted", "草地上，一座蓝色的大房子的左边有一颗红色的小星星，房子的上面有两条带条纹的绿色的鱼。"),
        ("existential", "草地上有一颗红色的小星星在一座蓝色的大房子的左边，还有两条带条纹的绿色的鱼在房子的上面。"),
        ("passive", "草地上，一颗红色的小星星被画在一座蓝色的大房子的左边，两条带条纹的绿色的鱼被画在房子的上面。"),
    ],
)
def test_styles(story, style, expected):
    assert grammar_for("zh").caption(story, style) == expected
