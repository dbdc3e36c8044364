"""CL2CM: the student's terms are over what retrieval sees; the teacher learns beside it and leaves no trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import ConfigError
from ccr_adapters.full import FullConfig
from ccr_adapters.methods import CL2CM, CL2CMTerms
from ccr_adapters.methods.cl2cm import blank_of
from ccr_adapters.modeling import CCRModel
from ccr_adapters.objectives import (
    cosine_cost,
    info_nce,
    mask_tokens,
    relational,
    transport_plan,
    word_alignment,
)

PUBLISHED = CL2CM.stages["joint"]
DYNAMIC = {"r": 4, "condition_dim": 16, "generator_rank": 4}
KINDS = {"full": lambda: FullConfig(), "dasd": lambda: DASDConfig(**DYNAMIC)}
ABLATIONS = {name: lambda name=name: DASDConfig(**DYNAMIC, condition_on=name) for name in ("related", "agnostic")}
OTHERS = {"lora": lambda: LoraConfig(r=4, target_modules=["query", "value"])}


@pytest.fixture
def build(bases, german_tokenizer):
    """Function that builds a model with a language of a kind, not the identity."""

    def make(family="bert", kind="full", own=False, head=None):
        torch.manual_seed(5)
        model = CCRModel.from_base(bases[family])
        model.add_language(
            "de", (KINDS | ABLATIONS | OTHERS)[kind](), tokenizer=german_tokenizer if own else None, head=head
        )
        with torch.no_grad():
            for parameter in model.trainable("de"):
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model.eval()

    return make


def vectors(model, rows, role, name):
    parts = (rows[f"{role}_{key}"] for key in ("input_ids", "attention_mask", "pooled_at"))
    return model.target_features(*parts, name, source=role == "source")[0]


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "xlmr"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True], ids=["shared tokens", "own tokens"])
def test_the_terms_are_those_of_what_retrieval_encodes(family, kind, own, build, batch, captions):
    model = build(family, kind, own)
    rows = batch(model, "source")
    method = CL2CM(model, "de", PUBLISHED).eval()
    with torch.no_grad():
        torch.manual_seed(7)
        found = method(**rows)
        torch.manual_seed(7)
        words = expected_words(model, rows)
        visual, ids = rows["visual_vectors"], rows["image_index"]
        target = model.encode_text(captions, "de")
        source = vectors(model, rows, "source", "de")
        taught = [vectors(model, rows, role, "de_teacher") for role in ("source", "target")]
    near = {"abs": 2e-4}
    assert found["contrastive"].item() == pytest.approx(info_nce(target, visual, scale=20, ids=ids).item(), **near)
    assert found["source"].item() == pytest.approx(info_nce(source, visual, scale=20, ids=ids).item(), **near)
    assert found["sentence"].item() == pytest.approx(info_nce(*taught, scale=20, ids=ids).item(), **near)
    transfer = relational(*taught, visual, target, temperature=0.05, ids=ids)
    assert found["transfer"].item() == pytest.approx(transfer.item(), **near)
    assert set(found) == {"contrastive", "source", "sentence", "words", "transfer"}
    assert found["words"].item() == pytest.approx(words, **near)


def expected_words(model, rows):
    """The word-level term, step by step: a plan between whole captions without their padding, and masked ones that find it."""
    states, masked, hidden_states, real = {}, {}, {}, {}
    for role in ("source", "target"):
        tokenizer = model.processor.tokenizer_for(None if role == "source" else "de")
        ids, mask, ends = (rows[f"{role}_{key}"] for key in ("input_ids", "attention_mask", "pooled_at"))
        real[role] = rows.get(f"{role}_words", mask)
        hidden, masked[role] = mask_tokens(ids, real[role], blank_of(tokenizer), 0.15, tokenizer.all_special_ids)
        for given, kept in ((ids, states), (hidden, hidden_states)):
            kept[role] = model.target_features(given, mask, ends, "de_teacher", source=role == "source")[1]
    plan = transport_plan(cosine_cost(states["source"], states["target"]), *real.values(), epsilon=PUBLISHED.epsilon)
    keys = {"source_keys": states["source"], "target_keys": states["target"]}
    return word_alignment(*hidden_states.values(), *masked.values(), plan, *real.values(), **keys).item()


def test_padding_is_no_word_where_the_base_reads_it(build, batch):
    """SigLIP reads captions at a fixed length, and its mask is all ones."""
    model = build("siglip")
    rows = batch(model, "source")
    assert rows["target_attention_mask"].all()
    assert rows["target_words"].sum() < rows["target_words"].numel() / 2
    method = CL2CM(model, "de", PUBLISHED).eval()
    with torch.no_grad():
        torch.manual_seed(7)
        found = method(**rows)["words"]
        torch.manual_seed(7)
        without = method(**{key: value for key, value in rows.items() if not key.endswith("_words")})["words"]
    assert not torch.isclose(found, without, rtol=1e-3)


def test_what_several_processes_are_told_of(build, batch):
    """Parameters without a gradient: DDP stops at the second step unless it is told that there are some."""
    head = HeadConfig(space=8, width=8, attention_heads=2)
    cases = [
        ({}, {}),
        ({"head": head}, {}),
        ({"family": "clip"}, {}),
        ({"family": "clip", "head": head}, {}),
        ({"family": "clip"}, {"sentence": 0.0}),
        ({}, {"contrastive": 0.0, "transfer": 0.0}),
        *(({"kind": kind}, {}) for kind in ("dasd", "related", "agnostic")),
    ]
    for values, terms in cases:
        model = build(**values)
        method = CL2CM(model, "de", replace(PUBLISHED, **terms))
        sum(method(**batch(model, "source")).values()).backward()
        idle = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle or method.leaves_unused, (values, terms, idle)
    assert not CL2CM(build(), "de", PUBLISHED).leaves_unused


def test_the_teacher_learns_from_its_terms_and_the_student_from_its_own(build, batch):
    model = build(own=True)
    method = CL2CM(model, "de", PUBLISHED)
    found = method(**batch(model, "source"))

    def reached(*names):
        method.zero_grad()
        sum(found[name] for name in names).backward(retain_graph=True)
        return {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    teacher = {name for name, p in method.named_parameters() if "de_teacher" in name and p.requires_grad}
    student = {name for name, p in method.named_parameters() if "de_teacher" not in name and p.requires_grad}
    assert teacher
    assert len(teacher) == len(student)
    taught, learned = reached("sentence", "words"), reached("contrastive", "transfer")
    assert taught <= teacher
    assert learned <= student
    # keys have biases that no softmax can see
    assert {name for name in teacher - taught if "key.bias" not in name} == set()
    assert {name for name in student - learned if "key.bias" not in name} == set()


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_leaves_no_trace(kind, build, batch, german, tmp_path):
    model = build(kind=kind, own=True)
    before, keys = model.encode_text(german, "de"), set(model.state_dict())
    method = CL2CM(model, "de", PUBLISHED)
    assert "de_teacher_" not in "".join(model.languages)
    assert any("de_teacher" in name for name in method.trainable_state())
    sum(method(**batch(model, "source")).values()).backward()
    method.finish()
    method.finish()
    assert set(model.state_dict()) == keys
    assert torch.equal(model.encode_text(german, "de"), before)
    model.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if "teacher" in path.name]
    assert torch.equal(CCRModel.from_pretrained(tmp_path).encode_text(german, "de"), before)
    CL2CM(model, "de", PUBLISHED).finish()  # and a second stage can have one again


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_the_teacher_starts_where_the_student_is(kind, build, batch):
    """A student that was trained before has a table that fits its own blocks, and no others."""
    model = build(kind=kind, own=True)
    rows = batch(model, "source")
    CL2CM(model, "de", PUBLISHED)
    with torch.no_grad():
        for role in ("source", "target"):
            student, teacher = (vectors(model, rows, role, name) for name in ("de", "de_teacher"))
            torch.testing.assert_close(student, teacher, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_activations_that_are_computed_again_are_of_the_same_network(kind, build, batch):
    gradients = []
    for again in (False, True):
        model = build(kind=kind, own=True)
        method = CL2CM(model, "de", PUBLISHED).train()
        if again:
            method.activation_checkpointing_enable()
        torch.manual_seed(3)
        sum(method(**batch(model, "source")).values()).backward()
        gradients.append({name: p.grad for name, p in method.named_parameters() if p.grad is not None})
    plain, computed = gradients
    assert plain.keys() == computed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(computed[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_activations_are_not_computed_again_by_another_network(build):
    model = build(kind="lora")
    method = CL2CM(model, "de", PUBLISHED)
    with pytest.raises(ConfigError, match="use_reentrant: true"):
        method.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    method.activation_checkpointing_enable(activation_checkpointing_kwargs={"preserve_rng_state": False})


@pytest.mark.parametrize("family", ["clip", "bert"])
def test_the_teacher_reads_captions_as_its_twin_does(family, build, batch):
    """At the length that the language wants, and to its end token where nobody says where that is."""
    model = build(family, own=True)
    model.config.languages["de"] = replace(model.config.languages["de"], pad_to=20)
    rows = batch(model, "source")
    CL2CM(model, "de", PUBLISHED)
    found = []
    for name in ("de", "de_teacher"):
        with torch.no_grad():
            states = model.token_states(rows["target_input_ids"], rows["target_attention_mask"], None, name)
            features = model.target_features(rows["target_input_ids"], None, None, name)[0]
        assert states.shape[1] == 20
        found.append(features)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_the_groups_of_the_optimiser_know_both_tables(build):
    model = build(own=True)
    method = CL2CM(model, "de", PUBLISHED)
    assert method.modules_of("vocabulary") == [model.vocabularies["de"], model.vocabularies["de_teacher"]]


def test_in_a_space_of_its_own(build, batch):
    model = build(head=HeadConfig(space=20, width=16, attention_heads=2))
    rows = batch(model, "source")
    found = CL2CM(model, "de", PUBLISHED).eval()(**rows)
    target, visual = vectors(model, rows, "target", "de"), model.map_visual(rows["visual_vectors"], "de")
    expected = info_nce(target, visual, scale=20, ids=rows["image_index"])
    assert found["contrastive"].item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_student_alone(build, batch):
    model = build()
    method = CL2CM(model, "de", CL2CMTerms(contrastive=2.0))
    assert method.teaches is False
    rows = batch(model)
    assert set(method(**rows)) == {"contrastive"}
    assert CL2CM.needs(method.terms) == frozenset()


def test_objectives_that_cannot_be(build):
    with pytest.raises(ConfigError, match="term"):
        CL2CM(build(), "de", CL2CMTerms())
    with pytest.raises(ConfigError, match="transfer"):
        CL2CM(build(), "de", CL2CMTerms(contrastive=1, transfer=1))


@pytest.mark.parametrize("unknown", [None, "the end"])
def test_words_are_hidden_behind_others_where_no_token_stands_for_one(unknown, build, batch):
    """CLIP has no mask token, and its unknown token is the one that ends a caption."""
    model = build()
    rows = batch(model, "source")
    tokenizer = model.processor.tokenizer
    assert blank_of(tokenizer) == tokenizer.mask_token_id or tokenizer.unk_token_id
    tokenizer.mask_token = None
    tokenizer.unk_token = unknown and tokenizer.eos_token
    assert blank_of(tokenizer) is None
    found = CL2CM(model, "de", PUBLISHED)(**rows)["words"]
    assert torch.isfinite(found)
