"""The comparison of an export with its model, against slow and obvious versions."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ccr_adapters.errors import ExportError
from ccr_adapters.export.parity import Parity, cosines, sample_captions, sample_pictures, table, top_overlap
from ccr_adapters.processing import CCRProcessor


def vectors(rows, width=8, seed=0):
    found = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def obvious_overlap(expected, found, k):
    shares = []
    for row in range(len(expected)):
        others = [other for other in range(len(expected)) if other != row]
        nearest = [
            set(sorted(others, key=lambda other: -float(one[row] @ expected[other]))[:k]) for one in (expected, found)
        ]
        shares.append(len(nearest[0] & nearest[1]) / k)
    return sum(shares) / len(shares)


@pytest.mark.parametrize(("rows", "k"), [(30, 10), (30, 3), (13, 4)])
def test_overlap_and_cosine_against_the_obvious(rows, k):
    expected = vectors(rows)
    found = expected + 0.2 * vectors(rows, seed=1)
    overlap = top_overlap(expected, found, k)
    assert 0 < overlap < 1
    assert overlap == pytest.approx(obvious_overlap(expected, found, k))
    for row in range(rows):
        slow = expected[row] @ found[row] / np.linalg.norm(expected[row]) / np.linalg.norm(found[row])
        assert cosines(expected, found)[row] == pytest.approx(slow, abs=1e-6)
    assert top_overlap(expected, expected, k) == 1


def test_few_rows_have_fewer_neighbours():
    assert top_overlap(vectors(5), vectors(5)) == 1
    assert top_overlap(vectors(1), vectors(1, seed=1)) == 1


def test_what_is_measured():
    expected = vectors(20)
    found = expected.copy()
    found[3, 2] += 0.25

    def slow():
        time.sleep(0.004)
        return expected

    report = Parity.of(slow, lambda: found)
    assert report.rows == 20
    assert report.largest_error == pytest.approx(0.25)
    assert report.smallest_cosine == pytest.approx(cosines(expected, found)[3])
    assert report.seconds_model >= 0.004
    assert report.speedup > 1
    assert "seconds_model" not in report.to_dict()
    with pytest.raises(ExportError, match=r"exported text tower.*smallest cosine is 0\.9"):
        report.check("text")
    Parity.of(lambda: expected, lambda: expected).check("text")


def test_the_table_has_a_column_for_each_tower():
    lines = table({"text": Parity(64, 1.2e-7, 1.0, 0.975, 0.4, 0.2), "image": Parity(8, 0, 1, 1, 1, 2)}).splitlines()
    assert lines[0].split() == ["text", "image"]
    assert lines[2].split() == ["largest", "error", "1.2e-07", "0.0e+00"]
    assert lines[-1].split() == ["times", "faster", "2.00", "0.50"]


def test_samples_are_many_and_the_same_again(german_tokenizer):
    processor = CCRProcessor(german_tokenizer, base_max_length=24)
    found = sample_captions(processor, None)
    assert found == sample_captions(processor, None)
    assert len(found) == 64
    assert len(set(found)) > 60
    lengths = [len(ids) for ids in processor.token_ids(found)]
    assert min(lengths) <= 4
    assert max(lengths) >= 12
    assert len({picture.size for picture in sample_pictures()}) == 32
