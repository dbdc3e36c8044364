"""Results on disk: CLIP_benchmark's definitions, whole files or none, and comparisons of the same questions alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ccr_adapters.errors import EvaluationError
from ccr_adapters.evaluation import RetrievalMetrics, evaluate_retrieval
from ccr_adapters.evaluation.records import (
    compare_records,
    mean_rows,
    protocol_lines,
    read_record,
    relabelled,
    shares,
    write_record,
)

NAMES = {"dataset": "toy", "model": "clip", "pretrained": "dasd", "task": "retrieval", "language": "de"}
# three pictures, four captions: the first two are of the first picture
SCORES = torch.tensor(
    [
        [0.9, 0.1, 0.2],
        [0.3, 0.8, 0.4],
        [0.7, 0.2, 0.1],
        [0.2, 0.3, 0.6],
    ]
)
ANSWERS = [0, 0, 1, 2]


def clip_benchmark(scores, answers, k):
    """Recall as CLIP_benchmark defines it: the share of queries with any of their answers among the k best."""
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(answers)), answers] = True

    def recall(table, right):
        best = table.topk(min(k, table.shape[1]), dim=1).indices
        return right.gather(1, best).any(dim=1).float().mean().item()

    return recall(scores, positive), recall(scores.T, positive.T)


@pytest.fixture
def result(tmp_path, random_ranks):
    def make(name="a", *, seed=0, questions="q", **changes):
        metrics = RetrievalMetrics.from_ranks(random_ranks(20, seed), bootstrap=50)
        own = {"questions": questions, "protocol": "all of it", "setting": "not checked", "leak": {}, "intervals": {}}
        return write_record(tmp_path / f"{name}.json", {**NAMES, **changes}, metrics, own)

    return make


def test_the_toy_set_by_hand():
    # vectors whose products are these scores: captions are the rows, pictures the axes
    text = torch.cat([SCORES, (1.2 - SCORES.square().sum(1, keepdim=True)).clamp(min=0).sqrt()], dim=1)
    visual = torch.eye(4)[:3]
    found = shares(evaluate_retrieval(text, visual, np.array(ANSWERS), bootstrap=0))
    # captions: 1st finds its picture first, 2nd third, 3rd second, 4th first
    assert found["image_retrieval_recall@1"] == pytest.approx(2 / 4)
    # pictures: the 1st finds the first caption, the 2nd (0.8 of a wrong one) none first, the 3rd its own
    assert found["text_retrieval_recall@1"] == pytest.approx(2 / 3)
    assert found["image_retrieval_recall@5"] == found["text_retrieval_recall@5"] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_recalls_are_those_of_clip_benchmark(seed):
    generator = torch.Generator().manual_seed(seed)
    text, visual = torch.randn(40, 8, generator=generator), torch.randn(15, 8, generator=generator)
    answers = torch.cat([torch.arange(15), torch.randint(15, (25,), generator=generator)])
    found = shares(evaluate_retrieval(text, visual, answers, bootstrap=0))
    scores = torch.nn.functional.normalize(text, dim=-1) @ torch.nn.functional.normalize(visual, dim=-1).T
    for k in (1, 5, 10):
        image, caption = clip_benchmark(scores, answers, k)
        assert found[f"image_retrieval_recall@{k}"] == pytest.approx(image)
        assert found[f"text_retrieval_recall@{k}"] == pytest.approx(caption)


def test_a_result_comes_back_with_its_ranks(result):
    written = result(seed=4)
    found = read_record(written.path)
    assert found == written
    values = json.loads(written.path.read_text(encoding="utf-8"))
    assert list(values) == ["dataset", "model", "pretrained", "task", "language", "metrics", "ccr"]
    again = RetrievalMetrics.from_ranks(found.ranks(), bootstrap=0).to_dict()
    assert {key: found.scores()[key] for key in again} == again
    assert sorted(path.name for path in written.path.parent.iterdir()) == ["a.json", "a.npz"]


def test_a_result_of_clip_benchmark_is_read(tmp_path):
    metrics = {"image_retrieval_recall@5": 0.5, "text_retrieval_recall@5": 0.75}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({**NAMES, "metrics": metrics}), encoding="utf-8")
    found = read_record(path)
    assert found.scores() == {"t2i_r@5": 50.0, "i2t_r@5": 75.0}
    assert found.row()["setting"] == "not checked"
    with pytest.raises(EvaluationError, match="has no ranks"):
        found.ranks()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no result"),
        ("{", "no JSON"),
        ("[]", "no result of"),
        ('{"dataset": "a"}', "lacks model, pretrained"),
        (json.dumps({**NAMES, "metrics": {}, "ccr": {"scores": {}}}), "no whole result"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, message):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        read_record(path)


def test_missing_and_broken_ranks_are_named(result):
    record = result()
    ranks = record.path.with_suffix(".npz")
    ranks.write_bytes(ranks.read_bytes()[:100])
    with pytest.raises(EvaluationError, match="holds no ranks"):
        record.ranks()
    ranks.unlink()
    with pytest.raises(EvaluationError, match="are missing"):
        record.ranks()


def test_a_comparison_needs_the_same_questions(result):
    a, b = result("a", seed=0), result("b", seed=1, pretrained="full")
    found = compare_records(a, b, resamples=200)
    assert found.difference == pytest.approx(a.scores()["sumR"] - b.scores()["sumR"])
    with pytest.raises(EvaluationError, match=r"'a.json' is toy, de, 'c.json' is toy, fr"):
        compare_records(a, result("c", language="fr", questions="other"), resamples=10)
    with pytest.raises(EvaluationError, match="captions or images of the two differ"):
        compare_records(a, result("d", questions="other"), resamples=10)


def test_a_new_label_leaves_the_scores(result):
    record = result()
    leak = {"setting": "leaked (3 of 20 test images were in the training data)", "report": "3 of 20"}
    found = relabelled(record, "retrieval", leak)
    assert found.own["leak"] == leak
    assert found.row()["setting"].startswith("leaked")
    assert found.scores() == record.scores()
    before = found.path.stat().st_mtime_ns
    assert relabelled(found, "retrieval", leak) is found
    assert found.path.stat().st_mtime_ns == before


def test_the_mean_over_languages_is_of_each_model(result):
    a, b = result("a", seed=0), result("b", seed=1, language="fr")
    rows = mean_rows([a, b, result("c", seed=2, pretrained="full"), result("d", dataset="other")])
    assert [(row["data"], row["language"], row["model"]) for row in rows] == [("toy", "mean of de, fr", a.label)]
    for key in ("t2i_r@1", "i2t_r@10", "sumR", "AR"):
        assert rows[0][key] == pytest.approx((a.scores()[key] + b.scores()[key]) / 2)
    many = [result(code, language=code) for code in ("cs", "de", "fr", "ja", "sw", "zh")]
    assert mean_rows(many)[0]["language"] == "mean of 6 languages"
    assert mean_rows([a, result("e", seed=3)]) == []  # one language, twice
    assert mean_rows([a, result("g", language="fr", model="another base")]) == []


def test_protocols_are_told_once(result):
    records = [result("a"), result("b", language="fr"), result("c", dataset="other")]
    assert protocol_lines(records) == ["toy (de, fr): all of it.", "other (de): all of it."]
