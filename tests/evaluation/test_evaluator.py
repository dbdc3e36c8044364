"""The whole evaluation against an oracle of plain loops, and what it says about bad input."""

from __future__ import annotations

import doctest
import logging
import math
import time

import numpy as np
import pytest
import torch

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import evaluate_retrieval, evaluator, protocol_line


def oracle(text, visual, image_of: list[int]) -> dict[str, float]:
    """All metrics from the full matrix of cosines, by the definitions."""

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    matrix = [[cosine(t, v) for v in visual.tolist()] for t in text.tolist()]
    metrics, sum_r = {}, 0.0
    captions_of = [[n for n, image in enumerate(image_of) if image == m] for m in range(len(visual))]
    directions = {
        "t2i": [(row, [image]) for row, image in zip(matrix, image_of, strict=True)],
        "i2t": [([row[m] for row in matrix], right) for m, right in enumerate(captions_of) if right],
    }
    for name, lists in directions.items():
        places, precisions = [], []
        for scores, right in lists:
            wrong = [s for j, s in enumerate(scores) if j not in right]
            good = sorted((scores[j] for j in right), reverse=True)
            above = [sum(w >= s for w in wrong) for s in good]
            places.append(1 + above[0])
            precisions.append(sum(k / (k + n) for k, n in enumerate(above, 1)) / len(good))
        for k in (1, 5, 10):
            metrics[f"{name}_r@{k}"] = 100 * sum(p <= k for p in places) / len(places)
            sum_r += metrics[f"{name}_r@{k}"]
        middle = sorted(places)
        half = len(middle) // 2
        metrics[f"{name}_medr"] = middle[half] if len(middle) % 2 else (middle[half - 1] + middle[half]) / 2
        metrics[f"{name}_meanr"] = sum(places) / len(places)
        metrics[f"{name}_map"] = 100 * sum(precisions) / len(precisions)
    return metrics | {"sumR": sum_r, "AR": sum_r / 6}


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_oracle(seed):
    rng = np.random.default_rng(seed)
    images, captions, d = (int(rng.integers(*span)) for span in ((1, 40), (1, 90), (2, 9)))
    visual = rng.normal(size=(images, d))
    image_of = rng.integers(images, size=captions)  # several captions an image, and images without
    text = visual[image_of] + rng.normal(size=(captions, d))
    metrics = evaluate_retrieval(text, visual, image_of, block=int(rng.integers(1, 50)), bootstrap=10)
    found = metrics.to_dict()
    expected = oracle(text, visual, image_of.tolist())
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert (metrics.images, metrics.captions) == (images, captions)
    assert metrics.unpaired == images - len(set(image_of.tolist()))


def test_a_perfect_model():
    metrics = evaluate_retrieval(torch.eye(20).repeat_interleave(5, 0), torch.eye(20), torch.arange(100) // 5)
    assert metrics.sum_r == 600
    assert metrics.sum_r_ci95 == (600, 600)
    assert (metrics.t2i.map, metrics.i2t.map, metrics.i2t.medr, metrics.t2i.meanr) == (100, 100, 1, 1)


def test_a_model_that_maps_everything_to_one_point_finds_nothing():
    point = torch.randn(1, 48)
    metrics = evaluate_retrieval(point.expand(60, 48), point.expand(30, 48), torch.arange(60) // 2)
    assert metrics.sum_r == 0
    assert metrics.t2i.meanr == 30
    assert metrics.i2t.meanr == 59


def test_captions_without_a_direction_find_nothing():
    metrics = evaluate_retrieval(torch.zeros(20, 4), torch.randn(20, 4), torch.arange(20))
    assert metrics.sum_r == 0


def test_length_does_not_count():
    text, visual, image_of = torch.randn(30, 8), torch.randn(15, 8), torch.arange(30) // 2
    stretched = visual * torch.arange(1, 16)[:, None]
    first = evaluate_retrieval(text, visual, image_of, bootstrap=0).to_dict()
    second = evaluate_retrieval(text * 3, stretched, image_of, bootstrap=0).to_dict()
    assert second == pytest.approx(first)


def test_images_without_captions_are_distractors_and_are_counted(caplog):
    text, visual = torch.eye(4)[:2], torch.eye(4)
    visual[3] = visual[0]  # a distractor that ties with the right one
    with caplog.at_level(logging.INFO, logger="ccr_adapters"):
        metrics = evaluate_retrieval(text, visual, torch.tensor([0, 1]))
    assert metrics.t2i.r1 == 50
    assert metrics.i2t.r1 == 100
    assert metrics.to_dict()["images_without_captions"] == metrics.unpaired == 2
    assert "2 of 4 images have no caption" in caplog.text


def test_the_order_of_captions_does_not_count():
    text, visual, image_of = torch.randn(40, 6), torch.randn(10, 6), torch.arange(40) % 10
    shuffle = torch.randperm(40)
    first = evaluate_retrieval(text, visual, image_of)
    second = evaluate_retrieval(text[shuffle], visual, image_of[shuffle])
    assert second.sum_r_ci95 == pytest.approx(first.sum_r_ci95)
    assert torch.equal(second.ranks.t2i, first.ranks.t2i[shuffle])
    assert torch.equal(second.ranks.i2t, first.ranks.i2t)


@pytest.mark.parametrize(
    ("text", "image_of", "message"),
    [
        (torch.ones(3, 4), torch.tensor([0, 1]), "3 text embeddings and caption_to_image speaks of 2"),
        (torch.ones(2, 4), torch.tensor([0, 5]), r"caption_to_image\[1\] is 5; the 5 images are rows 0 to 4"),
        (torch.ones(2, 4), torch.tensor([-1, 0]), r"caption_to_image\[0\] is -1"),
        (torch.ones(2, 4), torch.tensor([0.0, 1.0]), "integers"),
        (torch.ones(2, 4), torch.tensor([[0], [1]]), "integers"),
        (torch.ones(2, 3), torch.tensor([0, 1]), "3 wide and the gallery is 4 wide"),
        (torch.full((2, 4), torch.nan), torch.tensor([0, 1]), "2 of 2 text embeddings"),
        (torch.ones(0, 4), torch.zeros(0, dtype=torch.long), "text embeddings must be"),
    ],
)
def test_what_does_not_fit_is_named(text, image_of, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate_retrieval(text, torch.ones(5, 4), image_of)


def test_a_benchmark_of_usual_size_takes_seconds():
    visual = torch.randn(1000, 128)
    image_of = torch.arange(5000) // 5
    start = time.perf_counter()
    evaluate_retrieval(visual[image_of] + torch.randn(5000, 128), visual, image_of)
    assert time.perf_counter() - start < 10


def test_the_protocol_line():
    expected = (
        "T2I and I2T over 1,000 images x 2,000 captions; a hit is any positive in the top k; "
        "ties count against the model"
    )
    assert protocol_line(1000, 2000) == expected
    assert "(5 images without captions are distractors)" in protocol_line(1000, 2000, unpaired=5)


def test_the_examples_run():
    assert doctest.testmod(evaluator).failed == 0
    assert doctest.testmod(evaluator).attempted > 2
