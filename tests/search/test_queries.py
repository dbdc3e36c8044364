"""Questions of words and a picture."""

from __future__ import annotations

import numpy as np
import pytest

from ccr_adapters.errors import SearchIndexError
from ccr_adapters.search import combine

TEXT = np.array([[2.0, 0, 0], [0, 5, 0]], np.float32)
IMAGE = np.array([[0, 7.0, 0], [0, 1, 0]], np.float32)


def test_by_hand():
    np.testing.assert_allclose(combine(TEXT, IMAGE), [[0.5**0.5, 0.5**0.5, 0], [0, 1, 0]], atol=1e-6)
    length = (0.8**2 + 0.2**2) ** 0.5
    np.testing.assert_allclose(combine(TEXT, IMAGE, 0.2)[0], [0.8 / length, 0.2 / length, 0], atol=1e-6)


def test_the_ends_are_one_part_alone():
    np.testing.assert_array_equal(combine(TEXT, IMAGE, 0), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(combine(TEXT, IMAGE, 1), [[0, 1, 0], [0, 1, 0]])


def test_what_came_in_stays_as_it_was():
    text, image = TEXT.copy(), IMAGE.copy()
    assert combine(text, image).dtype == np.float32
    np.testing.assert_array_equal([text, image], [TEXT, IMAGE])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEXT, IMAGE, 1.5), "weight is 1.5"),
        ((TEXT, IMAGE, float("nan")), "weight is nan"),
        ((TEXT, IMAGE[:1]), r"\(2, 3\) and image vectors \(1, 3\)"),
        ((TEXT[0], IMAGE[0]), "one of each"),
        ((TEXT, -TEXT), "Vector 0 of 2"),
        ((TEXT, 0 * TEXT), "Vector 0 of 2"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(SearchIndexError, match=message):
        combine(*arguments)
