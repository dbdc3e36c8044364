"""MTEB runs our models: its own mock tasks, and a task of rendered pictures whose scores are those of our evaluator."""

from __future__ import annotations

import mteb
import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.models_protocols import EncoderProtocol
from mteb.types import PromptType

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.data.tiny_world import build_tiny_world
from ccr_adapters.errors import EvaluationError, LanguageError
from ccr_adapters.evaluation import evaluate_retrieval
from ccr_adapters.evaluation.mteb import MTEBModel
from ccr_adapters.modeling import CCRModel

SUBSETS = {"de": ["deu-Latn"], "fr": ["fra-Latn"], "en": ["eng-Latn"]}
PICTURES = 12


def build(base, *codes, **language):
    """A model whose languages have weights that are told apart."""
    torch.manual_seed(0)
    model = CCRModel.from_base(base)
    for code in codes:
        model.add_language(code, DASDConfig(r=4, condition_dim=16, generator_rank=4), **language)
        for parameter in model.trainable(code):
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model():
    return build("tiny_clip", "de", "fr")


@pytest.fixture(scope="module")
def scenes():
    """Pictures and their two captions in each language; not every picture keeps both."""
    found = {}
    for code in SUBSETS:
        rows = build_tiny_world("fr" if code == "fr" else "de", train=0, validation=0, test=PICTURES)["test"]
        found[code] = [
            own[: 1 + row % 2] for row, own in enumerate(rows["caption" if code == "en" else "target_caption"])
        ]
    return list(rows["image"]), found


def task_of(scenes, way):
    """A retrieval task as MTEB has XM3600: a subset a language, the pictures again in each."""
    pictures, captions = scenes

    def subset(own):
        owners = [row for row, texts in enumerate(own) for _ in texts]
        texts = Dataset.from_dict(
            {"id": [f"t{i}" for i in range(len(owners))], "text": [t for each in own for t in each]}
        )
        shown = Dataset.from_dict({"id": [f"i{i}" for i in range(len(pictures))], "image": pictures})
        shown = shown.cast_column("image", Image())
        answers = {}
        for text, image in enumerate(owners):
            query, document = (f"t{text}", f"i{image}") if way == "t2i" else (f"i{image}", f"t{text}")
            answers.setdefault(query, {})[document] = 1
        queries, corpus = (texts, shown) if way == "t2i" else (shown, texts)
        return {"queries": queries, "corpus": corpus, "relevant_docs": answers, "top_ranked": None}

    class Scenes(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Scenes{way.upper()}",
            description="Rendered scenes and their captions.",
            reference=None,
            dataset={"path": "none", "revision": "none"},
            type="Any2AnyMultilingualRetrieval",
            category=way,
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=SUBSETS,
            main_score="hit_rate_at_1",
        )

        def load_data(self, *_, **__):
            self.dataset = {code: {"test": subset(own)} for code, own in captions.items()}
            self.data_loaded = True

    return Scenes()


def test_the_mock_tasks_of_mteb_run(bases):
    """All of MTEB's kinds of tasks of texts and pictures, in English and French."""
    wrapped = MTEBModel(build(bases["clip"], "fr"))
    assert isinstance(wrapped, EncoderProtocol)
    results = mteb.mock_run(wrapped)
    ran = {name: status for name, status in results.items() if status is not None}
    assert len(ran) > 30
    assert [name for name, status in ran.items() if not hasattr(status, "scores")] == []


def test_scores_are_those_of_our_evaluator_and_pictures_are_seen_once(model, scenes, seen):
    tasks = {way: task_of(scenes, way) for way in ("t2i", "i2t")}
    results = mteb.evaluate(MTEBModel(model), list(tasks.values()), cache=None, show_progress_bar=False)
    assert sum(seen) == PICTURES  # three subsets, both ways
    pictures, captions = scenes
    visual = model.encode_image(pictures, None)
    different = set()
    for way, result in zip(tasks, results, strict=True):
        scores = {score["hf_subset"]: score for score in result.scores["test"]}
        for code, own in captions.items():
            text = model.encode_text([caption for each in own for caption in each], None if code == "en" else code)
            owners = np.repeat(np.arange(PICTURES), [len(each) for each in own])
            ours = evaluate_retrieval(text, visual, owners, bootstrap=0).to_dict()
            for k in (1, 5, 10):
                assert scores[code][f"hit_rate_at_{k}"] == pytest.approx(ours[f"{way}_r@{k}"] / 100, abs=1e-5)
            # MTEB looks at the first 1,000, which is all there are
            assert scores[code]["map_at_1000"] == pytest.approx(ours[f"{way}_map"] / 100, abs=1e-5)
            assert scores[code]["main_score"] == scores[code]["hit_rate_at_1"]
            different.add((way, ours["sumR"], scores[code]["ndcg_at_10"]))
    assert len(different) == 6  # each language went its own way


def test_a_language_with_a_space_of_its_own(german_tokenizer, scenes, seen):
    head = HeadConfig(space=12, width=8, attention_heads=2, normalize_visual=False)
    model = build("tiny_clip", "de", tokenizer=german_tokenizer, head=head)
    task = task_of(scenes, "t2i")
    result = mteb.evaluate(MTEBModel(model), task.filter_languages(["deu"]), cache=None, show_progress_bar=False)[0]
    assert sum(seen) == PICTURES
    pictures, captions = scenes
    text = model.encode_text([caption for each in captions["de"] for caption in each], "de")
    owners = np.repeat(np.arange(PICTURES), [len(each) for each in captions["de"]])
    ours = evaluate_retrieval(text, model.encode_image(pictures, "de"), owners, bootstrap=0).to_dict()
    assert result.scores["test"][0]["hit_rate_at_5"] == pytest.approx(ours["t2i_r@5"] / 100, abs=1e-5)


class Task:
    """What the wrapper asks of a task's metadata."""

    name = "Somebody's"

    def __init__(self, **subsets):
        self.hf_subsets_to_langscripts = subsets


def encoded(model, texts, subset, task=None, **options):
    task = task or Task(**{subset: [subset]})
    wrapped = MTEBModel(model, **options)
    return wrapped.encode([{"text": texts}], task_metadata=task, hf_split="test", hf_subset=subset)


@pytest.mark.parametrize(
    ("subset", "code"),
    [("de", "de"), ("deu-Latn", "de"), ("deu_Latn", "de"), ("fra-Latn", "fr"), ("eng-Latn", None), ("en", None)],
)
def test_the_subset_picks_the_adapter(model, subset, code):
    expected = model.encode_text(["rouge", "rot"], code).numpy()
    np.testing.assert_array_equal(encoded(model, ["rouge", "rot"], subset), expected)
    task = Task(default=[subset] if "-" in subset else [{"de": "deu-Latn", "en": "eng-Latn"}.get(subset, "deu-Latn")])
    np.testing.assert_array_equal(encoded(model, ["rouge", "rot"], "default", task), expected)


def test_scripts_and_regions(bases):
    model = build(bases["clip"], "zh-Hans", "zh-Hant", "am", "pt-BR", "nb", "tl")
    pairs = {"zho-Hant": "zh-Hant", "cmn-Hans": "zh-Hans", "amh-Ethi": "am", "por-Latn": "pt-BR"}
    for asked, code in {**pairs, "nob-Latn": "nb", "fil-Latn": "tl"}.items():
        np.testing.assert_array_equal(encoded(model, ["x y"], asked), model.encode_text(["x y"], code).numpy())
    with pytest.raises(LanguageError, match="'zho' may be zh-Hans or zh-Hant"):
        encoded(model, ["x"], "zho")


def test_a_language_that_is_not_there(model, caplog):
    with pytest.raises(LanguageError, match="no adapter for 'swa-Latn', but for de, fr.*missing='base'"):
        encoded(model, ["x"], "swa-Latn")
    found = encoded(model, ["x"], "swa-Latn", missing="base")
    np.testing.assert_array_equal(found, model.encode_text(["x"], None).numpy())
    assert "the base encodes it" in caplog.text
    both = Task(**{"deu-fra": ["deu-Latn", "fra-Latn"]})
    with pytest.raises(LanguageError, match="deu-Latn and fra-Latn are not told apart"):
        encoded(model, ["x"], "deu-fra", both)
    chosen = encoded(model, ["x"], "deu-fra", both, language="fr")
    np.testing.assert_array_equal(chosen, model.encode_text(["x"], "fr").numpy())
    with pytest.raises(LanguageError):
        MTEBModel(model, language="sw")
    with pytest.raises(EvaluationError, match="`missing` is 'no'"):
        MTEBModel(model, missing="no")


def test_odd_rows(model, scenes, caplog):
    found = encoded(model, ["rot", "\u00a0", "blau"], "de")
    assert not found[1].any()
    np.testing.assert_allclose(found[[0, 2]], model.encode_text(["rot", "blau"], "de").numpy(), atol=1e-6)
    assert "1 empty texts" in caplog.text
    wrapped, task = MTEBModel(model), Task(default=["deu-Latn"])
    how = {"task_metadata": task, "hf_split": "test", "hf_subset": "default", "prompt_type": PromptType.query}
    assert wrapped.encode([], **how).shape == (0, model.embedding_dim)
    picture = scenes[0][0]
    both = wrapped.encode([{"text": ["rot"], "image": [picture.convert("L")]}], **how, batch_size=3)
    parts = wrapped.encode([{"text": ["rot"]}], **how) + wrapped.encode([{"image": [picture.convert("L")]}], **how)
    np.testing.assert_allclose(both, parts / np.linalg.norm(parts), atol=1e-6)
    with pytest.raises(EvaluationError, match="Somebody's gives audio; this model encodes text and image"):
        wrapped.encode([{"audio": [1]}], **how)


def test_what_results_are_filed_under(model, bases):
    meta = MTEBModel(model, name="me/dasd", revision="1").mteb_model_meta
    assert (meta.name, meta.revision, meta.languages) == ("me/dasd", "1", ["eng-Latn", "deu-Latn", "fra-Latn"])
    assert meta.modalities == ["text", "image"]
    assert meta.embed_dim == model.embedding_dim
    text = MTEBModel(build(bases["bert"], "zh-Hant")).mteb_model_meta
    assert text.modalities == ["text"]
    assert text.languages == ["eng-Latn", "zho-Hant"]
    assert text.name == "ccr-adapters/bert-zh-Hant"
