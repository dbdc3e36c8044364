"""Chunks: the gradients of one big batch, whatever the method, the adapter and the size of a chunk."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from torch.utils.checkpoint import checkpoint

from ccr_adapters.configuration import HeadConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.full import FullConfig
from ccr_adapters.methods import CL2CM, DASD, NRCCR, DASDTerms, EnglishFineTune, Transfer, TransferTerms
from ccr_adapters.modeling import CCRModel, chunks, packing

BANK = torch.randn(4, 32, generator=torch.Generator().manual_seed(9))
ADAPTERS = {
    "dasd": lambda: DASDConfig(r=4, condition_dim=16, generator_rank=4, init_weights=False),
    "static": lambda: DASDConfig(r=4, mode="static", init_weights=False),
    "lora": lambda: LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False),
    "full": lambda: FullConfig(head=False),
}
METHODS = {
    "dasd": lambda model: DASD(model, "de", DASDTerms(contrastive=1.0, alignment=1.0, consistency=0.1), BANK),
    "transfer": lambda model: Transfer(model, "de", TransferTerms(cosine=1.0, relational=1.0, words=0.5), BANK),
    "cl2cm": lambda model: CL2CM(model, "de", CL2CM.stages["joint"]),
    "nrccr": lambda model: NRCCR(model, "de", NRCCR.stages["joint"]),
}


@pytest.fixture
def rows(german, english):
    """Function that makes a batch of six captions for a model."""

    def make(model):
        torch.manual_seed(3)
        target = model.processor.pad(model.processor.token_ids(german[:6], "de"), "de")
        source = model.processor.pad(model.processor.token_ids(english[:6]))
        return {
            **{f"target_{key}": getattr(target, key) for key in ("input_ids", "attention_mask", "pooled_at")},
            **{f"source_{key}": getattr(source, key) for key in ("input_ids", "attention_mask", "pooled_at")},
            **{f"back_{key}": getattr(source, key).flip(0) for key in ("input_ids", "attention_mask", "pooled_at")},
            "source_vectors": torch.randn(6, model.embedding_dim),
            "visual_vectors": torch.randn(6, model.embedding_dim),
            "image_index": torch.tensor([0, 0, 1, 2, 3, 3]),
        }

    return make


def only(batch, *prefixes):
    """The part of a batch whose names start so."""
    return {key: value for key, value in batch.items() if key.startswith(prefixes)}


def gradients(method, batch, chunk, by_length=False):
    """Loss, and the gradient of every trained parameter."""
    method.zero_grad()
    torch.manual_seed(7)  # CL2CM draws which words it masks
    with method.model.in_chunks(chunk), method.model.by_length(by_length):
        loss = torch.stack([term.float() for term in method(**batch).values()]).sum()
    loss.backward()
    found = {n: p.grad.clone() for n, p in method.named_parameters() if p.requires_grad and p.grad is not None}
    return loss.detach(), found


def same(method, batch, chunk, by_length=False):
    whole, expected = gradients(method, batch, None)
    cut, found = gradients(method, batch, chunk, by_length)
    assert torch.allclose(cut, whole, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    assert len(expected) > 4
    largest = max(value.abs().max() for value in expected.values())
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 1e-5 * max(1.0, float(largest)), name


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "xlmr"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_gradients_are_those_of_one_batch(family, adapter, chunk, bases, rows, german_tokenizer):
    torch.manual_seed(5)
    model = CCRModel.from_base(bases[family])
    model.add_language("de", ADAPTERS[adapter](), tokenizer=german_tokenizer)
    model.trainable("de")
    same(METHODS["dasd"](model), only(rows(model), "target_", "source_vectors", "visual_", "image_"), chunk)


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a training batch may be of one row, or the batches of these tests would stay whole."""
    monkeypatch.setattr(packing, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(packing, "_FEWEST_TOKENS", {"cpu": 1})


@pytest.mark.parametrize("family", ["clip", "siglip", "bert", "xlmr"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("chunk", [None, 4])
def test_gradients_by_length_are_those_of_one_batch(
    family, adapter, chunk, bases, rows, german_tokenizer, small_parts, monkeypatch
):
    torch.manual_seed(5)
    model = CCRModel.from_base(bases[family])
    model.add_language("de", ADAPTERS[adapter](), tokenizer=german_tokenizer)
    model.trainable("de")
    shapes, whole = [], model._adapted_rows
    monkeypatch.setattr(model, "_adapted_rows", lambda ids, *rest: shapes.append(tuple(ids.shape)) or whole(ids, *rest))
    batch = only(rows(model), "target_", "source_vectors", "visual_", "image_")
    same(METHODS["dasd"](model), batch, chunk, by_length=True)
    if family != "siglip":  # which reads its padding
        lengths = batch["target_attention_mask"].sum(1)
        assert len(shapes) > 2
        passes = 2 if chunk else 1  # a checkpoint encodes again
        assert sum(count * width for count, width in shapes[1:]) < passes * len(lengths) * int(lengths.max())


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("name", ["transfer", "cl2cm", "nrccr"])
def test_methods_that_read_more_than_one_pass(name, by_length, bases, rows, german_tokenizer, small_parts):
    torch.manual_seed(5)
    model = CCRModel.from_base(bases["bert"])
    head = HeadConfig(space=20, width=16, attention_heads=2, dropout=0.0) if name == "nrccr" else None
    adapter = ADAPTERS["dasd" if name == "transfer" else "full"]()
    model.add_language("de", adapter, tokenizer=german_tokenizer, head=head)
    model.trainable("de")
    method = METHODS[name](model)
    back = ["back_"] if name == "nrccr" else []
    same(
        method.eval(),
        only(rows(model), "target_", "source_", "visual_", "image_", *back),
        None if by_length else 4,
        by_length,
    )


@pytest.mark.parametrize("by_length", [False, True])
def test_a_head_that_reads_padding_gets_it(by_length, bases, rows, german_tokenizer, small_parts):
    """Cut off, it would be zeros where a whole batch has the states of padding."""
    torch.manual_seed(5)
    model = CCRModel.from_base(bases["bert"])
    head = HeadConfig(space=20, width=16, attention_heads=2, dropout=0.0, read_padding=True)
    model.add_language("de", ADAPTERS["full"](), tokenizer=german_tokenizer, head=head)
    model.trainable("de")
    batch = only(rows(model), "target_", "source_", "visual_", "image_", "back_")
    same(METHODS["nrccr"](model).eval(), batch, None if by_length else 4, by_length)


def test_chunks_are_of_like_length_and_no_longer(bases, german, german_tokenizer):
    """Rows come back in their order, with states and features, however long their neighbours are."""
    torch.manual_seed(5)
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", ADAPTERS["dasd"](), tokenizer=german_tokenizer)
    model.trainable("de")
    texts = [" ".join(german[0].split()[:count]) for count in (1, 4, 1, 3, 1, 2, 1)]
    batch = model.processor.pad(model.processor.token_ids(texts, "de"), "de")
    given = (batch.input_ids, batch.attention_mask, batch.pooled_at, "de")
    vectors, states, condition = model.target_features(*given)
    widths, whole = [], model._adapted_rows
    model._adapted_rows = lambda ids, *rest: widths.append(ids.shape[1]) or whole(ids, *rest)
    with model.in_chunks(2):
        cut, cut_states, cut_condition = model.target_features(*given)
    lengths = sorted(batch.attention_mask.sum(1).tolist(), reverse=True)
    assert widths == lengths[::2]
    assert len(set(widths)) > 2
    torch.testing.assert_close(cut, vectors)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(cut_states[real], states[real])
    assert torch.equal(cut_condition.input_ids, batch.input_ids)
    assert torch.equal(cut_condition.pooled_at, batch.pooled_at)
    for half in ("related", "agnostic"):
        torch.testing.assert_close(getattr(cut_condition.features["de"], half), getattr(condition.features["de"], half))
    with model.in_chunks(2):  # without a mask nobody knows where padding begins
        widths.clear()
        model.target_features(batch.input_ids, None, batch.pooled_at, "de")
    assert set(widths) == {batch.input_ids.shape[1]}


def test_padding_that_is_read_stays(bases, german, german_tokenizer):
    model = CCRModel.from_base(bases["clip"])
    settings = {"r": 4, "condition_dim": 16, "generator_rank": 4, "init_weights": False}
    model.add_language("de", DASDConfig(**settings, sa_all_positions=True), tokenizer=german_tokenizer)
    model.trainable("de")
    batch = model.processor.pad(model.processor.token_ids(german[:6], "de"), "de")
    given = (batch.input_ids, batch.attention_mask, batch.pooled_at, "de")
    expected = model.target_features(*given)[0]
    with model.in_chunks(2):
        torch.testing.assert_close(model.target_features(*given)[0], expected)


def test_a_batch_of_two_languages(bases, german, german_tokenizer):
    torch.manual_seed(5)
    model = CCRModel.from_base(bases["clip"])
    for code in ("de", "cs"):
        model.add_language(code, ADAPTERS["dasd"](), tokenizer=german_tokenizer)
        model.trainable(code)
    batch = model.processor.pad(model.processor.token_ids(german[:6], "de"), "de")
    codes = ["de", "cs", "cs", "de", "de", "cs"]
    given = (batch.input_ids, batch.attention_mask, batch.pooled_at, codes)
    whole, _, condition = model.target_features(*given)
    with model.in_chunks(4):
        cut, _, other = model.target_features(*given)
    assert torch.allclose(cut, whole, atol=1e-6)
    for code in ("de", "cs"):
        assert torch.allclose(other.features[code].related, condition.features[code].related, atol=1e-6)
        assert torch.allclose(other.features[code].agnostic, condition.features[code].agnostic, atol=1e-6)


def test_the_english_stage_with_pictures(bases, english):
    model = CCRModel.from_base(bases["clip"])
    method = EnglishFineTune(model)
    source = model.processor.pad(model.processor.token_ids(english[:6]))
    size = model.base.config.vision_config.image_size
    batch = {
        "source_input_ids": source.input_ids,
        "source_attention_mask": source.attention_mask,
        "pixel_values": torch.randn(6, 3, size, size),
        "image_index": torch.arange(6),
    }
    same(method, batch, 4)


def test_dropout_is_drawn_once(bases, rows, german_tokenizer):
    """The backward pass encodes again with the same random numbers, or its gradient would belong to another loss."""
    torch.manual_seed(5)
    model = CCRModel.from_base(bases["bert"])
    model.add_language("de", FullConfig(), tokenizer=german_tokenizer)
    model.trainable("de")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    weight = next(p for n, p in model.named_parameters() if p.requires_grad and p.ndim == 2)
    batch = rows(model)
    given = tuple(batch[f"target_{key}"] for key in ("input_ids", "attention_mask", "pooled_at"))

    def loss(shift):
        torch.manual_seed(11)
        with torch.no_grad():
            weight.view(-1)[0] += shift
        model.train()
        with model.in_chunks(2):
            found = model.target_features(*given, "de")[0].double().square().sum()
        with torch.no_grad():
            weight.view(-1)[0] -= shift
        return found

    model.train()
    with torch.no_grad():
        draws = [model.target_features(*given, "de")[0] for _ in range(2)]
    assert not torch.allclose(*draws)  # something is drawn
    torch.manual_seed(11)
    with model.in_chunks(2):
        model.target_features(*given, "de")[0].double().square().sum().backward()
    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    assert torch.isclose(weight.grad.view(-1)[0].double(), slope, rtol=0.02, atol=1e-3)


def test_a_checkpoint_is_called_with_a_tensor(bases, rows, monkeypatch):
    """torch keeps the random numbers of the devices of these alone, so without one a GPU would draw other dropout."""
    met = []

    def watched(function, *given, **values):
        met.append([each.device.type for each in given if isinstance(each, torch.Tensor)])
        return checkpoint(function, *given, **values)

    monkeypatch.setattr(chunks, "checkpoint", watched)
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", ADAPTERS["dasd"]())
    model.trainable("de")
    batch = rows(model)
    with model.in_chunks(4):
        model.target_features(*(batch[f"target_{key}"] for key in ("input_ids", "attention_mask", "pooled_at")), "de")
    chunks.map_in_chunks(lambda pixel_values: 2 * pixel_values, 4, {"pixel_values": torch.randn(6, 3)})
    assert met == [["cpu"]] * 4


def test_without_a_graph_nothing_is_cut(bases, rows, german_tokenizer):
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", ADAPTERS["dasd"](), tokenizer=german_tokenizer)
    batch = rows(model)
    seen = []
    model._tower().encoder.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    with torch.no_grad(), model.in_chunks(2):
        model.target_features(*(batch[f"target_{k}"] for k in ("input_ids", "attention_mask", "pooled_at")), "de")
    assert set(seen) == {6}
    seen.clear()
    with model.in_chunks(4):
        model.target_features(*(batch[f"target_{k}"] for k in ("input_ids", "attention_mask", "pooled_at")), "de")
    assert set(seen) == {4, 2}
