"""What a dynamic adapter reads off captions, against reading them one by one; who has no such features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ccr_adapters.demo.finder import Finder
from ccr_adapters.demo.reasons import Reasons, read
from ccr_adapters.errors import LanguageError


@pytest.fixture(scope="module")
def finder(model, pictures, captions):
    return Finder(model, pictures, captions)


@pytest.fixture(scope="module")
def reasons(finder):
    return Reasons(finder)


def one_by_one(model, texts, code):
    """Features and weights of each caption in a pass of its own, without any padding."""
    found = []
    for text in texts:
        ids = torch.tensor(model.processor.token_ids([text], code))
        with torch.inference_mode():
            _, _, condition = model.target_features(ids, torch.ones_like(ids), None, code)
        features = condition.features[code]
        found.append((features.related[0], features.agnostic[0], condition.cores[code][0].flatten()))
    return [torch.stack(part) for part in zip(*found, strict=True)]


def test_one_caption_has_a_map_too(model, pictures, captions):
    own = next(each for each in captions if each.language == "de")
    plane = Reasons(Finder(model, pictures, [own])).why("roter fisch", "de", 3).plane
    assert plane.points.shape == (1, 2)
    assert np.isfinite(plane.points).all()
    assert np.isfinite(plane.query).all()


def test_captions_are_read_as_one_by_one(model, captions):
    texts = [each.text for each in captions if each.language == "de"] * 4  # more than a batch, of two lengths
    related, agnostic, cores = one_by_one(model, texts, "de")
    found = read(model, texts, "de")
    torch.testing.assert_close(found.related, F.normalize(related, dim=-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.agnostic, F.normalize(agnostic, dim=-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.cores, cores, atol=1e-5, rtol=1e-4)
    assert found.cores.std(dim=0).max() > 1e-3  # captions differ in them


def test_the_nearest_captions_are_those_of_each_feature(reasons, model, captions):
    own = [each for each in captions if each.language == "de"]
    query = "roter fisch"
    known, asked = one_by_one(model, [each.text for each in own], "de"), one_by_one(model, [query], "de")
    found = reasons.why(query, "de", 3)
    for part, nearest in enumerate((found.related, found.agnostic)):
        scores = F.cosine_similarity(known[part], asked[part]).numpy()
        best = np.argsort(-scores, kind="stable")[:3]
        assert [each.caption for each in nearest] == [own[index] for index in best]
        assert [each.score for each in nearest] == pytest.approx([scores[index] for index in best], abs=1e-4)


def test_a_question_that_is_a_caption_is_not_its_own_reason(reasons):
    found = reasons.why("roter stern", "de", 50)
    assert len(found.related) == len(found.agnostic) == 17
    assert "roter stern" not in [each.caption.text for each in found.related + found.agnostic]


def test_the_question_lies_where_its_caption_does(reasons):
    plane = reasons.why("roter stern", "de", 1).plane
    index = [each.text for each in plane.captions].index("roter stern")
    np.testing.assert_allclose(plane.query, plane.points[index], atol=1e-4)
    assert plane.points.shape == (18, 2)
    np.testing.assert_allclose(plane.points.mean(axis=0), 0, atol=1e-4)
    assert 0 < plane.share <= 1


def test_a_map_of_all_languages_has_those_with_dynamic_adapters(reasons):
    plane = reasons.languages_plane("roter stern", "de")
    assert {each.language for each in plane.captions} == {"de", "fr"}
    assert len(plane.points) == 36
    index = [(each.text, each.language) for each in plane.captions].index(("roter stern", "de"))
    np.testing.assert_allclose(plane.query, plane.points[index], atol=1e-4)


@pytest.mark.parametrize(("language", "name"), [("cs", "Czech"), ("en", "English")])
def test_a_static_adapter_and_the_base_say_that_they_have_none(reasons, language, name):
    with pytest.raises(LanguageError, match=f"{name} has no such features here: only a dynamic adapter"):
        reasons.why("modrá ryba", language, 3)
    with pytest.raises(LanguageError, match="no such features"):
        reasons.languages_plane("modrá ryba", language)


def test_without_captions_there_is_nothing_to_compare_with(model, pictures):
    with pytest.raises(LanguageError, match="no captions in 'de'"):
        Reasons(Finder(model, pictures)).why("roter stern", "de", 3)
