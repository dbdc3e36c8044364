"""The measures behind the noise report, against values worked out by hand."""

from __future__ import annotations

import pytest

from ccr_adapters.translation.checks import SCRIPTS, chrf, share_of_loops, share_of_script

GERMAN = SCRIPTS["Latn"]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "order", "beta", "expected"),
    [
        ("abc", "abc", 6, 2, 1.0),
        ("abc", "xyz", 6, 2, 0.0),
        ("", "abc", 6, 2, 0.0),
        ("", "", 6, 2, 0.0),
        ("A b C", "abc", 6, 2, 1.0),  # case and spaces are none of its business
        # letters: 2 of 2 and 2 of 4
        ("ab", "abcd", 1, 1, 2 * 1 * 0.5 / 1.5),
        ("ab", "abcd", 1, 2, 5 * 1 * 0.5 / (4 * 1 + 0.5)),
        # letters: P = R = 3/4; pairs: ab bc of ab bc cx, and of ab bc cd, P = R = 2/3
        ("abcx", "abcd", 2, 2, (3 / 4 + 2 / 3) / 2),
        # a letter counts as often as it is in both: 1 of 3, 1 of 2; pairs of aaa and ab: none
        ("aaa", "ab", 2, 1, 2 * (1 / 6) * (1 / 4) / (1 / 6 + 1 / 4)),
        # only the orders that both are long enough for: one letter
        ("a", "ab", 6, 1, 2 * 1 * 0.5 / 1.5),
    ],
)
def test_chrf_by_hand(hypothesis, reference, order, beta, expected):
    assert chrf(hypothesis, reference, order=order, beta=beta) == pytest.approx(expected)


def test_chrf_orders_round_trips_as_a_reader_would():
    caption = "Two dogs run through the deep snow."
    backs = [caption, "Two dogs are running through deep snow.", "Dogs in the snow", "A man plays the guitar"]
    scores = [chrf(back, caption) for back in backs]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    assert scores[1] > 0.5 > 0.3 > scores[3]


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("Zwei Hunde laufen", "Latn", 1.0),
        ("Äpfel, Öl & naïve", "Latn", 1.0),
        ("两只狗在雪地里奔跑", "Latn", 0.0),
        ("两只狗在雪地里奔跑。", "Hans", 1.0),
        ("人々、〆切", "Jpan", 1.0),
        ("人々", "Latn", 0.0),
        ("dog 狗", "Hans", 0.25),
        ("ＮＢＡ", "Latn", 1.0),  # full width
        ("二匹の犬がスーパーで走る", "Jpan", 1.0),
        ("두 마리의 개", "Hang", 1.0),
        ("Две собаки", "Cyrl", 1.0),
        ("Две dogs", "Cyrl", 3 / 7),
        ("दो कुत्ते", "Deva", 1.0),
        ("สุนัขสองตัว", "Thai", 1.0),
        ("12:30 !", "Latn", 1.0),
        ("", "Latn", 1.0),
    ],
)
def test_share_of_script(text, code, expected):
    assert share_of_script(text, SCRIPTS[code]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "spaced", "expected"),
    [
        ("zwei Hunde laufen durch den Schnee", True, 0.0),
        ("sehr sehr alt", True, 0.0),  # twice is how people speak
        ("ein Hund Hund Hund", True, 2 / 4),
        ("ein Mann ein Mann ein Mann", True, 4 / 6),
        ("Hund Hund Hund und Mann Mann Mann", True, 4 / 7),
        ("a b a b a", True, 0.0),
        ("HUND hund Hund", True, 2 / 3),
        ("polepole", True, 0.0),
        ("ein Hund, ein Hund, ein Hund.", True, 4 / 6),
        ("ein Hund und ein Hund und ein Hund", True, 5 / 8),  # what stands between is left out behind the last
        ("ein Hund und ein Hund und eine Katze", True, 0.0),
        ("- - -", True, 2 / 3),
        ("一只狗在跑", False, 0.0),
        ("慢慢", False, 0.0),
        ("哈哈哈", False, 0.0),
        ("的的的的的", False, 4 / 5),
        ("一只狗一只狗一只狗", False, 6 / 9),
        ("写着1000000的牌子", False, 0.0),
        ("1,000,000,000日元......", False, 0.0),
        ("第一第一第一", False, 4 / 6),
        ("", True, 0.0),
    ],
)
def test_share_of_loops(text, spaced, expected):
    assert share_of_loops(text, spaced=spaced) == pytest.approx(expected)
