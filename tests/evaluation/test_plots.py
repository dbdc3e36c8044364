"""Plots show the numbers they were given, hold all their letters, and cut nothing off at the edge."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from PIL import Image

from ccr_adapters.errors import EvaluationError, MissingExtraError
from ccr_adapters.evaluation import (
    MapPanel,
    Record,
    language_map,
    rank_histogram,
    recall_bars,
    save_figure,
    similarity_heatmap,
)
from ccr_adapters.evaluation.lettering import Lettering
from ccr_adapters.evaluation.space_plots import plane_of

GERMAN = ["ein Hund rennt durch den tiefen Schnee und bellt eine schwarze Katze an", "zwei Männer"]


def record(label, language, value, *, dataset="toy"):
    scores = {f"{way}_r@{k}": value + k for way in ("t2i", "i2t") for k in (1, 5, 10)}
    intervals = {key: [score - 2, score + 3] for key, score in scores.items()}
    own = {"scores": scores, "ranks": "none", "intervals": intervals}
    return Record(Path(f"{label}.json"), dataset, "clip", label, "retrieval", language, {}, own)


def unreadable(figure):
    """Texts that reach beyond the edge, and whether letters are smaller than 10 points."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    texts = [text for text in figure.findobj(lambda one: hasattr(one, "get_fontsize")) if text.get_text().strip()]
    texts = [text for text in texts if text.get_visible()]
    found = []
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height or text.get_fontsize() < 9.9:
            found.append(text.get_text())
    assert len(texts) > 3
    return found


def test_what_is_cut_off_is_found():
    figure = recall_bars([record("dasd", "de", 60.0)])
    figure.text(0.97, 0.5, "too far to the right")
    figure.text(0.5, 0.5, "tiny", fontsize=6)
    assert unreadable(figure) == ["too far to the right", "tiny"]


@pytest.fixture
def noise():
    return np.random.default_rng(0)


def test_bars_are_as_high_as_the_recalls(tmp_path):
    records = [record("dasd", "de", 60.0), record("dasd", "fr", 50.0), record("base", "de", 5.0)]
    figure = recall_bars(records)
    for panel in figure.axes:
        bars = {bar.get_height() for group in panel.containers for bar in getattr(group, "patches", [])}
        assert bars == {61.0, 51.0, 6.0}
        ends = {tuple(line[:, 1]) for group in panel.collections for line in group.get_segments()}
        assert (59.0, 64.0) in ends
    # the base comes first, in grey
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clip (base)", "dasd"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["de", "fr"]
    assert unreadable(figure) == []
    path = save_figure(figure, tmp_path / "new" / "bars.png")
    with Image.open(path) as picture:
        assert picture.width == 1200
    assert [file.name for file in path.parent.iterdir()] == ["bars.png"]


def test_many_languages_stay_readable():
    codes = (
        "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
    )
    records = [record(label, code, 40.0) for label in ("base", "dasd", "full") for code in codes.split()]
    figure = recall_bars(records)
    assert unreadable(figure) == []
    boxes = [label.get_window_extent() for label in figure.axes[1].get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_bars_of_one_method_twice_are_refused():
    with pytest.raises(EvaluationError, match="one result for each method"):
        recall_bars([record("a", "de", 1.0), record("a", "de", 2.0)])
    with pytest.raises(EvaluationError, match="one result"):
        recall_bars([])


def test_a_histogram_counts_every_query_in_bins_that_double(ranks_of):
    ranks = ranks_of([1, 2, 3, 4, 7, 8, 100, 1], [1, 1], [0, 0, 0, 0, 1, 1, 1, 1])
    figure = rank_histogram({"dasd": ranks, "full": ranks})
    left = figure.axes[0]
    assert [label.get_text() for label in left.get_xticklabels()] == [
        "1",
        "2–3",
        "4–7",
        "8–15",
        "16–31",
        "32–63",
        "64–127",
    ]
    shares = [bar.get_height() for bar in left.containers[0]]
    assert shares == [25.0, 25.0, 25.0, 12.5, 0.0, 0.0, 12.5]
    assert sum(bar.get_height() for bar in figure.axes[1].containers[1]) == pytest.approx(100)
    assert unreadable(figure) == []
    with pytest.raises(EvaluationError, match="at least one"):
        rank_histogram({})


def test_a_histogram_of_deep_ranks_keeps_its_labels(ranks_of):
    figure = rank_histogram({"dasd": ranks_of([1, 25_000], [1, 2], [0, 1])}, title="deep")
    assert unreadable(figure) == []


def test_a_heatmap_shows_numbers_captions_and_pictures(noise):
    similarity = np.array([[0.5, 0.1, -0.25], [0.4, 0.3, 0.2]])
    pictures = [Image.fromarray(noise.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(3)]
    figure = similarity_heatmap(similarity, GERMAN, pictures, title="toy, de")
    panel = figure.axes[0]
    bold = {text.get_text() for text in panel.texts if text.get_fontweight() == "bold"}
    assert bold == {"0.50", "0.40"}
    assert "−0.25" in {text.get_text() for text in panel.texts}
    assert {patch.get_xy()[0] for patch in panel.patches} == {-0.47, 0.53}
    drawn = [axes for axes in figure.axes if axes.images and axes is not panel]
    assert len(drawn) == 3
    assert np.asarray(drawn[0].images[0].get_array()).shape == (144, 144, 3)
    assert any("Schnee" in text.get_text() for text in panel.texts)
    assert unreadable(figure) == []


def test_captions_are_drawn_in_a_font_that_has_their_letters(noise):
    chinese = "一只狗在雪地里奔跑"
    figure = similarity_heatmap(
        np.eye(2), [chinese, "$5 or $6"], ["first", "a_long_file_name_of_some_picture"], title="zh"
    )
    texts = {text.get_text(): text for text in figure.axes[0].texts}
    expected = Lettering().font(chinese, 15).path
    assert texts[chinese].get_fontproperties().get_file() == str(expected)
    assert unreadable(figure) == []


@pytest.mark.parametrize(("version", "said"), [((3, 10, 9), 2), ((3, 11, 0), 0)])
def test_letters_that_are_drawn_the_wrong_way_round_are_told(version, said, monkeypatch, caplog):
    monkeypatch.setattr("matplotlib.__version_info__", version)
    for captions in (["كلبان يركضان"], ["שני כלבים"], ["Zwei Hunde 123"], ["两只狗"]):
        similarity_heatmap(np.eye(1), captions, ["a"])
    assert caplog.text.count("pip install 'matplotlib>=3.11'") == said


def test_a_heatmap_that_does_not_fit_is_refused():
    with pytest.raises(EvaluationError, match="2 captions and 3 pictures"):
        similarity_heatmap(np.eye(2), ["a", "b"], ["x", "y", "z"])
    with pytest.raises(EvaluationError, match="at most 12"):
        similarity_heatmap(np.eye(13), ["a"] * 13, ["b"] * 13)


def test_the_plane_is_that_of_the_largest_eigenvalues(noise):
    vectors = noise.normal(size=(50, 6)) * np.array([5, 1, 4, 1, 1, 1])
    mean, directions, share = plane_of(vectors)
    values, slow = np.linalg.eigh(np.cov(vectors.T))
    np.testing.assert_allclose(np.abs(directions @ slow[:, [-1, -2]]), np.eye(2), atol=1e-8)
    assert share == pytest.approx(values[-2:].sum() / values.sum())
    np.testing.assert_allclose(mean, vectors.mean(0))


def test_a_map_joins_each_caption_with_its_picture(noise):
    gallery = noise.normal(size=(30, 5))
    visual, before, after = gallery[:4], noise.normal(size=(4, 5)), gallery[:4] + 0.01
    panels = [MapPanel("before", before, visual, gallery), MapPanel("after", after, visual, gallery)]
    figure = language_map(panels, title="toy, de")
    mean, directions, _ = plane_of(gallery)
    for axes, text in zip(figure.axes, (before, after), strict=True):
        lines = next(one for one in axes.collections if isinstance(one, LineCollection)).get_segments()
        expected = np.stack([(text - mean) @ directions.T, (visual - mean) @ directions.T], axis=1)
        np.testing.assert_allclose(np.stack(lines), expected)
        low, high = np.array(axes.get_xlim()), np.array(axes.get_ylim())
        points = np.concatenate(lines)
        assert (points[:, 0] > low[0]).all()
        assert (points[:, 1] < high[1]).all()
    # one plane: one frame
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert unreadable(figure) == []


def test_a_map_without_pairs_is_refused(noise):
    gallery = noise.normal(size=(5, 3))
    with pytest.raises(EvaluationError, match="expected pairs"):
        language_map([MapPanel("after", gallery[:2], gallery[:3], gallery)])
    with pytest.raises(EvaluationError, match="needs a panel"):
        language_map([])


def test_without_matplotlib_the_message_has_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # how Python itself marks what cannot be imported
    with pytest.raises(MissingExtraError, match=r"ccr-adapters\[plots\]"):
        recall_bars([record("a", "de", 1.0)])
