"""The authors' checkpoints, converted: the vectors are those of the papers' equations, computed here without the library.

The state dicts have the names that the authors' code gives them, and random values; the plain forward passes below are
written from the equations and from what the code is known to do beside them: one caption at a time where that can be.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel, BertTokenizer, CLIPConfig, CLIPModel
from transformers.models.clip import CLIPImageProcessorPil

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.hub import convert_checkpoint
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.upload import check_folder

WIDTH, CONTEXT, BLOCKS, NARROW, RANK, CONDITION = 128, 24, 3, 20, 4, 24
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


# ------------------------------------------------------------------------------------------- CLIP under OpenAI's names


@pytest.fixture(scope="session")
def clip_of():
    """Function that builds a CLIP with heads of width 64, as OpenAI's are."""

    def make(seed: int) -> CLIPModel:
        text = {"hidden_size": WIDTH, "intermediate_size": 80, "num_attention_heads": 2, "num_hidden_layers": BLOCKS}
        text |= {"vocab_size": 200, "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1}
        vision = {"hidden_size": 64, "intermediate_size": 60, "num_attention_heads": 1, "num_hidden_layers": 2}
        vision |= {"image_size": 16, "patch_size": 8}
        torch.manual_seed(seed)
        config = CLIPConfig(
            text_config={**text, "eos_token_id": 3, "projection_dim": WIDTH},
            vision_config={**vision, "projection_dim": WIDTH},
            projection_dim=WIDTH,
        )
        return stirred(CLIPModel(config)).eval()

    return make


def stirred(module, scale: float = 0.1):
    """Every weight moved, norms and biases too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


def under_openais_names(clip: CLIPModel) -> dict[str, torch.Tensor]:
    """The weights of a CLIP as OpenAI's state dict has them: joint maps of queries, keys and values, maps on the right."""
    own = clip.state_dict()
    found = {
        "token_embedding.weight": own["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": own["text_model.embeddings.position_embedding.weight"],
        "text_projection": own["text_projection.weight"].T.contiguous(),
        "logit_scale": own["logit_scale"],
        "visual.class_embedding": own["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": own["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": own["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": own["visual_projection.weight"].T.contiguous(),
    }
    norms = {"ln_final": "text_model.final_layer_norm", "visual.ln_pre": "vision_model.pre_layrnorm"}
    norms |= {"visual.ln_post": "vision_model.post_layernorm"}
    for tower, start, count in (("text_model", "", BLOCKS), ("vision_model", "visual.", 2)):
        for index in range(count):
            theirs, place = f"{start}transformer.resblocks.{index}", f"{tower}.encoder.layers.{index}"
            for kind in ("weight", "bias"):
                joint = [own[f"{place}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                found[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(joint)
            norms |= {f"{theirs}.ln_1": f"{place}.layer_norm1", f"{theirs}.ln_2": f"{place}.layer_norm2"}
            norms |= {f"{theirs}.mlp.c_fc": f"{place}.mlp.fc1", f"{theirs}.mlp.c_proj": f"{place}.mlp.fc2"}
            norms |= {f"{theirs}.attn.out_proj": f"{place}.self_attn.out_proj"}
    for theirs, place in norms.items():
        found |= {f"{theirs}.{kind}": own[f"{place}.{kind}"] for kind in ("weight", "bias")}
    return {name: value.clone() for name, value in found.items()}


def save_clip(clip: CLIPModel, tokenizer, folder: Path) -> Path:
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def public(clip_of, base_tokenizer, tmp_path_factory) -> Path:
    """The CLIP that everybody can download."""
    return save_clip(clip_of(5), base_tokenizer, tmp_path_factory.mktemp("public"))


@pytest.fixture(scope="session")
def tokens(german_tokenizer, tmp_path_factory) -> Path:
    """The tokenizer that the checkpoint's table goes with; its padding has the id 3."""
    folder = tmp_path_factory.mktemp("tokens")
    german_tokenizer.save_pretrained(folder)
    return folder


# --------------------------------------------------------------------------------------------------------------- DASD


def dasd_state(clip: CLIPModel, rows: int, codes: tuple[str, ...] = ("de", "fr")) -> OrderedDict:
    """A checkpoint of the authors' train.py: CLIP, what was trained, and what is never used (in part not even finite)."""
    torch.manual_seed(11)
    shapes = {
        "ln_mu.weight": (WIDTH,),
        "ln_mu.bias": (WIDTH,),
        "ln_sigma.weight": (WIDTH,),
        "ln_sigma.bias": (WIDTH,),
        "sr_projection": (WIDTH, WIDTH),
        "multilingual_embedding.weight": (rows, NARROW),
        "multilingual_embedding_linear.weight": (WIDTH, NARROW),
        "multilingual_embedding_linear.bias": (WIDTH,),
        "transformer.zi_adapter_student.c_fc1.weight": (CONDITION, 2 * WIDTH),
        "transformer.zi_adapter_student.c_fc1.bias": (CONDITION,),
        # never used
        "target_projection": (WIDTH, WIDTH),
        "visual.transformer.zi_adapter_student.c_fc1.weight": (CONDITION, 2 * WIDTH),
        "visual.transformer.zi_adapter_student.c_fc1.bias": (CONDITION,),
        "AdvAgent.discriminator.model.0.weight": (6, 2 * WIDTH),
        "AdvAgent.discriminator.model.0.bias": (6,),
    }
    for index in range(BLOCKS):
        block = f"transformer.resblocks.{index}"
        shapes |= {f"{block}.mlp_zi.c_fc1.weight": (RANK**2, CONDITION), f"{block}.mlp_zi.c_fc1.bias": (RANK**2,)}
        for code in codes:
            own = f"{block}.acquirer.{code}"
            shapes |= {f"{own}.mlp_beforez.c_fc.weight": (RANK, WIDTH), f"{own}.mlp_beforez.c_fc.bias": (RANK,)}
            shapes |= {f"{own}.mlp_afterz.c_proj2.weight": (WIDTH, RANK), f"{own}.mlp_afterz.c_proj2.bias": (WIDTH,)}
            for name in ("mlp_sr", "mlp_sa"):
                shapes |= {f"{own}.{name}.c_fc.weight": (9, WIDTH), f"{own}.{name}.c_proj.bias": (WIDTH,)}
            shapes |= {f"{own}.ln.weight": (WIDTH,), f"{own}.ln.bias": (WIDTH,)}
    trained = {name: torch.randn(shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}
    unset = {"sigma_projection": torch.full((WIDTH, WIDTH), math.nan)}  # made by torch.empty, and never filled
    return OrderedDict({**under_openais_names(clip), **trained, **unset})


def plain_norm(x, state, name):
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
    return centred / scale * state[f"{name}.weight"] + state[f"{name}.bias"]


def plain_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def plain_block(x, state, name):
    """One frozen block over one caption. (L, w) -> (L, w)"""
    normed = plain_norm(x, state, f"{name}.ln_1")
    q, k, v = (normed @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]).chunk(3, dim=-1)
    seen = torch.ones(len(x), len(x)).tril().bool()  # a position sees those before it
    heads = []
    for start in range(0, WIDTH, 64):
        part = slice(start, start + 64)
        scores = (q[:, part] @ k[:, part].T / 8).masked_fill(~seen, -math.inf)
        heads.append(scores.softmax(dim=-1) @ v[:, part])
    out = f"{name}.attn.out_proj"
    x = x + torch.cat(heads, dim=-1) @ state[f"{out}.weight"].T + state[f"{out}.bias"]
    inner = plain_norm(x, state, f"{name}.ln_2") @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
    return x + plain_gelu(inner) @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]


def plain_dasd(ids: list[int], pad: int, state, code: str) -> torch.Tensor:
    """The vector of one caption by the paper's equations, with padding up to the context. -> (d,)"""
    end = len(ids) - 1
    ids = ids + [pad] * (CONTEXT - len(ids))
    rows = state["multilingual_embedding.weight"][ids]
    linear = "multilingual_embedding_linear"
    start = rows @ state[f"{linear}.weight"].T + state[f"{linear}.bias"] + state["positional_embedding"]
    prefix = start
    for index in range(2):
        prefix = plain_block(prefix, state, f"transformer.resblocks.{index}")
    related = plain_norm(prefix, state, "ln_mu")[end] @ state["sr_projection"]
    agnostic = plain_norm(prefix, state, "ln_sigma").mean(dim=0)  # over padding too, without a head
    read, student = torch.cat([related, agnostic]), "transformer.zi_adapter_student.c_fc1"
    z = plain_gelu(state[f"{student}.weight"] @ read + state[f"{student}.bias"])
    x = start
    for index in range(BLOCKS):
        block = f"transformer.resblocks.{index}"
        x = plain_block(x, state, block)
        core = (state[f"{block}.mlp_zi.c_fc1.weight"] @ z + state[f"{block}.mlp_zi.c_fc1.bias"]).reshape(RANK, RANK)
        own = f"{block}.acquirer.{code}"
        down = x @ state[f"{own}.mlp_beforez.c_fc.weight"].T + state[f"{own}.mlp_beforez.c_fc.bias"]
        up = torch.relu(down @ core) @ state[f"{own}.mlp_afterz.c_proj2.weight"].T
        x = x + up + state[f"{own}.mlp_afterz.c_proj2.bias"]
    vector = plain_norm(x, state, "ln_final")[end] @ state["text_projection"]
    return vector / vector.norm()


@pytest.fixture(scope="session")
def dasd(clip_of, german_tokenizer, tmp_path_factory):
    """Function that writes a checkpoint, on the public CLIP or on one that was fine-tuned first: file, CLIP, tensors."""

    def make(seed: int = 5):
        clip = clip_of(seed)
        state = dasd_state(clip, len(german_tokenizer))
        path = tmp_path_factory.mktemp("dasd") / "pytorch_model.bin.500"
        torch.save(state, path)
        return path, clip, state

    return make


def convert(path, output, public, tokens, language="de", **values):
    arguments = {"method": "dasd", "base": public, "tokenizer": tokens, **values}
    return convert_checkpoint(path, language, output, **arguments)


@pytest.fixture(scope="session")
def converted(dasd, public, tokens, tmp_path_factory):
    """Function that gives a converted folder and the tensors it came from. Not to be written to."""
    made = {}

    def get(seed: int, code: str = "de"):
        if (seed, code) not in made:
            path, clip, state = dasd(seed)
            folder = tmp_path_factory.mktemp("converted") / "adapter"
            made[seed, code] = folder, clip, state, convert(path, folder, public, tokens, code)
        return made[seed, code]

    return get


@pytest.mark.parametrize("seed", [5, 6], ids=["on the public CLIP", "on a fine-tuned CLIP"])
@pytest.mark.parametrize("code", ["de", "fr"])
def test_captions_of_dasd_are_those_of_the_equations(seed, code, converted, german, german_tokenizer):
    folder, _, state, _ = converted(seed, code)
    found = CCRModel.from_pretrained(folder).encode_text(german, code)
    ids = german_tokenizer(german)["input_ids"]
    assert len({len(row) for row in ids}) > 2
    expected = torch.stack([plain_dasd(row, german_tokenizer.pad_token_id, state, code) for row in ids])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("seed", [5, 6], ids=["on the public CLIP", "on a fine-tuned CLIP"])
def test_pictures_and_english_are_the_checkpoints(seed, converted, english, base_tokenizer):
    folder, clip, _, _ = converted(seed)
    model = CCRModel.from_pretrained(folder)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        pictures = clip.get_image_features(pixel_values=pixels).pooler_output
        source = clip.get_text_features(**base_tokenizer(english[:1], return_tensors="pt")).pooler_output
    torch.testing.assert_close(model.get_image_features(pixels).pooler_output, pictures, **CLOSE)
    torch.testing.assert_close(model.encode_text(english[:1], None), F.normalize(source, dim=-1), **CLOSE)


def test_the_base_is_named_where_it_is_public_and_carried_where_not(converted, public):
    for seed, carried in ((5, False), (6, True)):
        folder, _, _, result = converted(seed)
        values = json.loads((folder / "config.json").read_text())
        assert values["base_model_name_or_path"] == ("base" if carried else str(public))
        assert (folder / "base" / "model.safetensors").is_file() == carried
        assert (result.difference > 0.01) == carried
        assert ("differ" in result.to_text()) == carried
        check_folder(folder)  # what push asks for


def test_what_no_vector_depends_on_is_left_out_and_told(converted):
    *_, result = converted(5)
    assert result.dropped["sigma_projection"] == 1
    assert result.dropped["transformer.resblocks.*.acquirer.de.mlp_sr.c_fc.weight"] == BLOCKS
    assert result.dropped["transformer.resblocks.*.acquirer.fr.mlp_beforez.c_fc.weight"] == BLOCKS
    assert not any("mlp_zi" in name or ".de.mlp_beforez" in name for name in result.dropped)
    assert all(name in result.to_text() for name in result.dropped)


def test_the_card_claims_no_figures(converted):
    folder, *_ = converted(5)
    card = (folder / "README.md").read_text()
    assert "Recalls: not measured here." in card
    assert "No evaluation was recorded" in card
    assert "github.com/HuiGuanLab/DASD" in card
    assert "`pytorch_model.bin.500`, sha256" in card
    assert json.loads((folder / "config.json").read_text())["languages"]["de"]["recipe"]["method"] == "dasd"


def test_a_caption_does_not_depend_on_its_batch(converted, german):
    model = CCRModel.from_pretrained(converted(5)[0])
    alone = torch.cat([model.encode_text([caption], "de") for caption in german])
    torch.testing.assert_close(model.encode_text(german, "de"), alone, **CLOSE)
    torch.testing.assert_close(model.encode_text(german, "de", batch_size=2), alone, **CLOSE)


def test_languages_of_one_checkpoint_share_a_base_and_a_batch(converted, german, english, german_tokenizer):
    model = CCRModel.from_pretrained(converted(5)[0])
    assert model.load_language(converted(5, "fr")[0]) == ["fr"]
    adapter = DASDConfig(r=4, generator_rank=4, init_weights=False)
    model.add_language("cs", adapter, tokenizer=german_tokenizer)
    codes = ["de", "fr", "cs", None, "cs", "de"]
    apart = [model.encode_text([caption], code) for caption, code in zip(german, codes, strict=True)]
    torch.testing.assert_close(model.encode_text(german, codes), torch.cat(apart), **CLOSE)


def test_ids_without_a_mask_are_padded_too(converted, german, german_tokenizer):
    folder, _, state, _ = converted(5)
    model = CCRModel.from_pretrained(folder)
    ids = german_tokenizer(german[2:3])["input_ids"]
    found = model.get_text_features(torch.tensor(ids), language="de").pooler_output[0]
    torch.testing.assert_close(F.normalize(found, dim=0), plain_dasd(ids[0], 3, state, "de"), **CLOSE)


def test_adapters_without_clip_stand_on_the_base_that_is_named(dasd, public, tokens, german, converted, tmp_path):
    _, _, state = dasd()
    clip = set(under_openais_names(CLIPModel.from_pretrained(public)))
    path = tmp_path / "adapters.pt"
    torch.save({f"module.{name}": value for name, value in state.items() if name not in clip}, path)
    result = convert(path, tmp_path / "out", public, tokens)
    assert result.difference is None
    assert "no frozen weights" in result.to_text()
    expected = CCRModel.from_pretrained(converted(5)[0]).encode_text(german, "de")
    assert torch.equal(CCRModel.from_pretrained(tmp_path / "out").encode_text(german, "de"), expected)
    with pytest.raises(AdapterError, match="which CLIP it was trained on.*--base"):
        convert(path, tmp_path / "none", None, tokens)


BLOCK = "transformer.resblocks.1"
BROKEN = {
    "missing": (
        lambda s: s.pop(f"{BLOCK}.mlp_zi.c_fc1.bias"),
        r"1 missing \(transformer.resblocks.1.mlp_zi.c_fc1.bias\)",
    ),
    "missing at the start": (lambda s: s.pop("sr_projection"), "lacks sr_projection"),
    "missing in CLIP": (
        lambda s: s.pop("visual.proj"),
        r"CLIP in the checkpoint.*1 missing \(visual_projection.weight\)",
    ),
    "unexpected": (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
    "wrong shape": (
        lambda s: s.update({f"{BLOCK}.acquirer.de.mlp_afterz.c_proj2.weight": torch.ones(WIDTH, 3)}),
        r"'transformer.resblocks.1.acquirer.de.mlp_afterz.c_proj2.weight' has shape \(128, 3\), expected \(128, 4\)",
    ),
    "of another CLIP": (lambda s: s.update(positional_embedding=torch.ones(9, WIDTH)), "Name another CLIP with --base"),
    "not finite": (lambda s: s["ln_mu.weight"].fill_(math.inf), "'ln_mu.weight' holds values that are not finite"),
    "a CLIP alone": (lambda s: [s.pop(k) for k in list(s) if "acquirer" in k], "a CLIP without adapters"),
    "static": (lambda s: [s.pop(k) for k in list(s) if "mlp_beforez" in k], "static acquirers"),
    "no tensor": (lambda s: s.update(epoch=3), "no state dict"),
    "another table": (
        lambda s: s.update({"multilingual_embedding.weight": torch.ones(7, NARROW)}),
        "tokens, the checkpoint's table 7 rows",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_that_does_not_fit_is_told_in_a_sentence(case, dasd, public, tokens, tmp_path):
    change, message = BROKEN[case]
    _, _, state = dasd()
    change(state)
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(AdapterError, match=message):
        convert(tmp_path / "broken.pt", tmp_path / "out", public, tokens)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]


def test_a_language_that_is_not_there(dasd, public, tokens, tmp_path):
    with pytest.raises(AdapterError, match="no language 'cs'. It has: de, fr"):
        convert(dasd()[0], tmp_path / "out", public, tokens, "cs")


def test_a_base_that_computes_something_else_is_refused(dasd, clip_of, base_tokenizer, tokens, tmp_path):
    clip = clip_of(5)
    clip.config.text_config.hidden_act = "gelu"
    folder = save_clip(clip, base_tokenizer, tmp_path / "gelu")
    with pytest.raises(AdapterError, match="'gelu'; OpenAI's CLIP has heads of width 64 and 'quick_gelu'"):
        convert(dasd()[0], tmp_path / "out", folder, tokens)


def test_arguments_that_cannot_work(dasd, public, tokens, bases, tmp_path):
    path, _, _ = dasd()
    with pytest.raises(AdapterError, match="is a 'bert' model; the checkpoint needs OpenAI's CLIP"):
        convert(path, tmp_path / "out", bases["bert"], tokens)
    with pytest.raises(AdapterError, match="The base .* cannot be loaded"):
        convert(path, tmp_path / "out", tmp_path / "nowhere", tokens)
    with pytest.raises(AdapterError, match="tokenizer .* cannot be loaded|is not here"):
        convert(path, tmp_path / "out", public, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="expected one of dasd, nrccr"):
        convert(path, tmp_path / "out", public, tokens, method="mla")
    with pytest.raises(ConfigError, match="`images` is not for dasd"):
        convert(path, tmp_path / "out", public, tokens, images=public)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(AdapterError, match="holds files already"):
        convert(path, tmp_path / "full", public, tokens)


# ------------------------------------------------------------------------------------------------------------ the file


class Runs:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save({"model": Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(AdapterError, match="Only tensors and plain values are read"):
        convert_checkpoint(tmp_path / "evil.pt", "de", tmp_path / "out", method="nrccr")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("method", ["dasd", "nrccr"])
def test_files_that_are_no_checkpoints(method, tmp_path):
    (tmp_path / "text.pt").write_text("not found")
    (tmp_path / "empty.pt").touch()
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    torch.save({"a": torch.ones(200)}, tmp_path / "cut.pt")
    whole = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("text.pt", "empty.pt", "tensor.pt", "cut.pt", "none.pt", ""):
        with pytest.raises(AdapterError, match="checkpoint"):
            convert_checkpoint(tmp_path / name, "de", tmp_path / "out", method=method)


# -------------------------------------------------------------------------------------------------------------- NRCCR

HEADS, QUERIES, TEXT, FRAMES, FEATURES, SPACE, POSITIONS = 4, 16, 24, 40, 10, 12, 30
WORDS = ["hund", "katze", "##n", "schlaft", "rennt", "im", "schnee", "die", "ein", "dog", "the", "sleeps", "a", "runs"]
NRCCR_GERMAN = ["Ein Hund rennt im Schnee", "die Katze schläft", "Katzen"]
NRCCR_ENGLISH = ["A dog runs", "the Dog sleeps", "the dog"]


@pytest.fixture(scope="session")
def mbert(tmp_path_factory) -> Path:
    """A BERT with a cased vocabulary that holds lower-case words, as mBERT's does in part."""
    folder = tmp_path_factory.mktemp("mbert")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "Hund", "Katze", "Ein", "A", "Dog"]
    names += [*letters, *(f"##{letter}" for letter in letters)]
    config = BertConfig(
        vocab_size=len(names), hidden_size=32, intermediate_size=40, num_attention_heads=4, num_hidden_layers=3
    )
    torch.manual_seed(3)
    stirred(BertModel(config)).save_pretrained(folder)
    vocabulary = {name: index for index, name in enumerate(names)}
    BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(folder)
    return folder


def encoder_state(entry: int, hidden: int, positions: int) -> dict[str, torch.Tensor]:
    """What follows BERT, or the frames, under the authors' names."""
    shapes = {
        "input_proj_layer.LayerNorm": (entry,),
        "input_proj_layer.net.1": (hidden, entry),
        "pos_embed_layer.LayerNorm": (hidden,),
        "encoder_layer.self.query": (QUERIES, hidden),
        "encoder_layer.self.key": (QUERIES, hidden),
        "encoder_layer.self.value": (hidden, hidden),
        "encoder_layer.output.dense": (hidden, hidden),
        "encoder_layer.output.LayerNorm": (hidden,),
    }
    found = {"pos_embed_layer.position_embeddings.weight": torch.randn(positions, hidden)}
    for name, shape in shapes.items():
        found |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    return found


def map_state(entry: int) -> dict[str, torch.Tensor]:
    return {
        "mapping.fc1.weight": torch.randn(SPACE, entry) / 4,
        "mapping.fc1.bias": torch.randn(SPACE),
        "mapping.bn_1.weight": torch.randn(SPACE),
        "mapping.bn_1.bias": torch.randn(SPACE),
        "mapping.bn_1.running_mean": torch.randn(SPACE),
        "mapping.bn_1.running_var": torch.rand(SPACE) + 0.3,
        "mapping.bn_1.num_batches_tracked": torch.tensor(9),
    }


def nrccr_checkpoint(kind: str, bert: BertModel, clip: CLIPModel, **options) -> dict:
    """What the authors' trainer saves: five state dicts, two of them from `DataParallel`, and the options of the run."""
    torch.manual_seed(13)
    width = {"clip": 2 * FEATURES, "features": FEATURES, "video": FRAMES}[kind]
    visual = {"proj.weight": torch.randn(width, WIDTH if kind == "clip" else FEATURES), "proj.bias": torch.randn(width)}
    if kind == "clip":
        visual |= {f"encoder.{name}": value for name, value in under_openais_names(clip).items()}
    elif kind == "video":
        visual = encoder_state(FEATURES, FRAMES, 80)
    text = encoder_state(32, TEXT, POSITIONS)
    text |= {f"text_bert.text_bert.{name}": value for name, value in bert.state_dict().items()}
    text["text_bert.text_bert.embeddings.position_ids"] = torch.arange(512)[None]
    parallel = [{f"module.{name}": value for name, value in part.items()} for part in (visual, text)]
    adversary = {"discriminator.model.0.weight": torch.randn(5, 32)}
    opt = argparse.Namespace(text_num_attention=HEADS, video_num_attention=HEADS, layer_list=["layer.2"], **options)
    return {
        "epoch": 7,
        "model": [*parallel, map_state(width), map_state(TEXT), adversary],
        "best_rsum": 200.5,
        "opt": opt,
        "Eiters": 99,
    }


def fine_tuned(mbert: Path, *blocks: int, embeddings: bool = False) -> BertModel:
    bert = BertModel.from_pretrained(mbert)
    torch.manual_seed(17)
    for index in blocks:
        stirred(bert.encoder.layer[index], 0.2)
    if embeddings:
        stirred(bert.embeddings, 0.2)
    return bert


def plain_attend(states, state, mask):
    """The authors' layer over a padded batch: what is padding attends to everything, what is not to what is not."""
    name, hidden = "encoder_layer.self", states.shape[-1]
    q, k, v = (
        states @ state[f"{name}.{part}.weight"].T + state[f"{name}.{part}.bias"] for part in ("query", "key", "value")
    )
    heads, narrow, wide = [], QUERIES // HEADS, hidden // HEADS
    for head in range(HEADS):
        mine, own = slice(head * narrow, (head + 1) * narrow), slice(head * wide, (head + 1) * wide)
        scores = q[..., mine] @ k[..., mine].transpose(1, 2) / math.sqrt(wide)
        scores = scores - 1e4 * (1 - mask[:, :, None] * mask[:, None, :])
        heads.append(scores.softmax(dim=-1) @ v[..., own])
    out = "encoder_layer.output"
    attended = torch.cat(heads, dim=-1) @ state[f"{out}.dense.weight"].T + state[f"{out}.dense.bias"]
    return plain_norm(attended + states, state, f"{out}.LayerNorm")


def plain_encoder(states, state, mask):
    """Entry, positions, attention, and the mean over all positions. (B, L, e) -> (B, h)"""
    entry = plain_norm(states, state, "input_proj_layer.LayerNorm")
    entry = torch.relu(entry @ state["input_proj_layer.net.1.weight"].T + state["input_proj_layer.net.1.bias"])
    placed = entry + state["pos_embed_layer.position_embeddings.weight"][: states.shape[1]]
    return plain_attend(plain_norm(placed, state, "pos_embed_layer.LayerNorm"), state, mask.float()).mean(dim=1)


def plain_map(pooled, state):
    mapped = pooled @ state["mapping.fc1.weight"].T + state["mapping.fc1.bias"]
    scale = torch.sqrt(state["mapping.bn_1.running_var"] + 1e-5)
    mapped = (mapped - state["mapping.bn_1.running_mean"]) / scale
    mapped = mapped * state["mapping.bn_1.weight"] + state["mapping.bn_1.bias"]
    return mapped / mapped.norm(dim=-1, keepdim=True)


def plain_parts(checkpoint):
    return [{name.removeprefix("module."): value for name, value in part.items()} for part in checkpoint["model"]]


def plain_captions(captions, checkpoint, bert, mbert):
    """Captions of one batch. -> (N, d')"""
    tokenizer = BertTokenizer.from_pretrained(mbert, do_lower_case=True)
    batch = tokenizer(captions, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    _, text, _, mapping, _ = plain_parts(checkpoint)
    return plain_map(plain_encoder(states, text, batch["attention_mask"]), mapping)


@pytest.fixture(scope="session")
def nrccr(mbert, clip_of, public, tmp_path_factory):
    """Function that writes and converts a checkpoint of a kind, once: folder, checkpoint, BERT, result."""
    made = {}

    def get(kind: str):
        if kind not in made:
            bert = fine_tuned(mbert, 1, 2)
            checkpoint = nrccr_checkpoint(kind, bert, clip_of(5))
            home = tmp_path_factory.mktemp("nrccr")
            torch.save(checkpoint, home / "model_best.pth.tar")
            images = {"images": public} if kind == "clip" else {}
            arguments = {"method": "nrccr", "base": mbert, **images}
            result = convert_checkpoint(home / "model_best.pth.tar", "de", home / "out", **arguments)
            made[kind] = home / "out", checkpoint, bert.eval(), result
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["clip", "features", "video"])
def test_captions_of_nrccr_are_those_of_the_equations(kind, nrccr, mbert):
    folder, checkpoint, bert, _ = nrccr(kind)
    model = CCRModel.from_pretrained(folder)
    expected = plain_captions(NRCCR_GERMAN, checkpoint, bert, mbert)
    torch.testing.assert_close(model.encode_text(NRCCR_GERMAN, "de"), expected, **CLOSE)
    source = plain_captions(NRCCR_ENGLISH, checkpoint, bert, mbert)
    torch.testing.assert_close(model.encode_source(NRCCR_ENGLISH, "de"), source, **CLOSE)
    assert (
        expected - plain_captions(NRCCR_GERMAN, checkpoint, BertModel.from_pretrained(mbert), mbert)
    ).abs().max() > 0.01


def test_pictures_go_through_clip_at_their_own_length(nrccr, clip_of, public):
    folder, checkpoint, _, result = nrccr("clip")
    model, pixels = CCRModel.from_pretrained(folder), torch.randn(3, 3, 16, 16)
    visual, _, mapping, _, _ = plain_parts(checkpoint)
    with torch.no_grad():
        seen = clip_of(5).get_image_features(pixel_values=pixels).pooler_output
    expected = plain_map(seen @ visual["proj.weight"].T + visual["proj.bias"], mapping)
    raw = model.get_image_features(pixels).pooler_output
    torch.testing.assert_close(model.map_visual(raw, "de"), expected, **CLOSE)
    pictures = [torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8) for _ in range(2)]
    inputs = model.processor.picture_inputs(pictures)
    by_hand = model.map_visual(model.get_image_features(**inputs).pooler_output, "de")
    torch.testing.assert_close(model.encode_image(pictures, "de"), by_hand, **CLOSE)
    output = model(input_ids=torch.tensor([[2, 5, 3]]), pixel_values=pixels, language="de")
    torch.testing.assert_close(output.image_embeds, expected, **CLOSE)
    with pytest.raises(ConfigError, match="reads the base's vectors at their own length"):
        model.map_visual(model.encode_image(pictures, None), "de")
    assert result.difference == 0


def test_features_of_pictures_have_a_layer_of_their_own(nrccr):
    folder, checkpoint, _, _ = nrccr("features")
    visual, _, mapping, _, _ = plain_parts(checkpoint)
    vectors = 3 * torch.randn(4, FEATURES)
    expected = plain_map(torch.relu(vectors @ visual["proj.weight"].T + visual["proj.bias"]), mapping)
    torch.testing.assert_close(CCRModel.from_pretrained(folder).map_visual(vectors, "de"), expected, **CLOSE)


def test_frames_are_pooled_with_their_padding(nrccr):
    folder, checkpoint, _, _ = nrccr("video")
    visual, _, mapping, _, _ = plain_parts(checkpoint)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    frames = 3 * torch.randn(2, 6, FEATURES) * mask[..., None]
    model = CCRModel.from_pretrained(folder)
    assert model.heads["de"].config.frames == 64  # of 80 positions, those that the authors' loader reaches
    expected = plain_map(plain_encoder(frames, visual, mask), mapping)
    torch.testing.assert_close(model.map_visual(frames, "de", mask), expected, **CLOSE)


def test_only_blocks_that_were_trained_are_in_the_adapter(nrccr, mbert, clip_of, tmp_path):
    model = CCRModel.from_pretrained(nrccr("features")[0])
    assert sorted(model.base.peft_config["de"].target_modules) == ["encoder.layer.1", "encoder.layer.2"]
    torch.save(nrccr_checkpoint("features", fine_tuned(mbert), clip_of(5)), tmp_path / "frozen.pt")
    convert_checkpoint(tmp_path / "frozen.pt", "de", tmp_path / "out", method="nrccr", base=mbert)
    frozen = CCRModel.from_pretrained(tmp_path / "out")
    assert set(frozen.base.peft_config["de"].target_modules) == {"encoder.layer.2"}  # an adapter has one


def test_embeddings_that_were_trained_come_with_the_base(mbert, clip_of, tmp_path):
    bert = fine_tuned(mbert, 0, embeddings=True)
    checkpoint = nrccr_checkpoint("features", bert, clip_of(5))
    torch.save(checkpoint, tmp_path / "all.pt")
    result = convert_checkpoint(tmp_path / "all.pt", "de", tmp_path / "out", method="nrccr", base=mbert)
    assert result.difference > 0.01
    found = CCRModel.from_pretrained(tmp_path / "out").encode_text(NRCCR_GERMAN, "de")
    torch.testing.assert_close(found, plain_captions(NRCCR_GERMAN, checkpoint, bert.eval(), mbert), **CLOSE)


def test_languages_of_two_checkpoints_share_their_base(nrccr, mbert, clip_of, public, tmp_path):
    checkpoint = nrccr_checkpoint("clip", fine_tuned(mbert, 2), clip_of(5))
    torch.save(checkpoint, tmp_path / "fr.pt")
    convert_checkpoint(tmp_path / "fr.pt", "fr", tmp_path / "fr", method="nrccr", base=mbert, images=public)
    model = CCRModel.from_pretrained(nrccr("clip")[0])
    before = model.encode_text(NRCCR_GERMAN, "de")
    assert model.load_language(tmp_path / "fr") == ["fr"]
    assert torch.equal(model.encode_text(NRCCR_GERMAN, "de"), before)
    assert (model.encode_text(NRCCR_GERMAN, "fr") - before).abs().max() > 0.01


def test_the_folder_of_nrccr_can_be_pushed_and_tells_what_it_is(nrccr):
    folder, _, _, result = nrccr("clip")
    check_folder(folder)
    card = (folder / "README.md").read_text()
    assert "not measured here" in card
    assert "read_padding" in card
    assert "encoder.transformer.resblocks.*.ln_1.weight" in result.dropped
    assert "AdvAgent.discriminator.model.*.weight" in result.dropped


UNFIT = {
    "two layers": ("video", {"video_layer": 2}, "video_layer=2"),
    "another pooling": ("features", {"text_pooling": "max"}, "text_pooling='max'"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_options_that_cannot_be_converted(case, mbert, clip_of, tmp_path):
    kind, options, message = UNFIT[case]
    torch.save(nrccr_checkpoint(kind, fine_tuned(mbert), clip_of(5), **options), tmp_path / "c.pt")
    with pytest.raises(AdapterError, match=message):
        convert_checkpoint(tmp_path / "c.pt", "de", tmp_path / "out", method="nrccr", base=mbert)


TEXT_PART, BERT = 1, "module.text_bert.text_bert.encoder.layer.1.output.dense.bias"
BROKEN_NRCCR = {
    "missing": (
        lambda m: m[1].pop("module.encoder_layer.self.key.bias"),
        r"\(text\).*1 missing \(encoder_layer.self.key",
    ),
    "missing in BERT": (lambda m: m[1].pop(BERT), r"mBERT.*1 missing \(encoder.layer.1.output.dense.bias\)"),
    "unexpected": (lambda m: m[0].update({"module.extra": torch.ones(1)}), r"\(pictures\).*1 unexpected \(extra\)"),
    "wrong shape": (
        lambda m: m[3].update({"mapping.fc1.weight": torch.ones(SPACE, 5)}),
        r"\(text map\): 'mapping.fc1.weight' has shape \(12, 5\), expected \(12, 24\)",
    ),
    "queries wider than values": (
        lambda m: m[1].update({"module.encoder_layer.self.query.weight": torch.ones(48, TEXT)}),
        "queries of width 48 and values of width 24",
    ),
    "no visual encoder": (lambda m: m[0].clear(), "neither for pictures nor for videos"),
    "parts": (lambda m: m.pop() and m.pop(), "lists 3 state dicts"),
}


@pytest.mark.parametrize("case", BROKEN_NRCCR)
def test_a_broken_nrccr_checkpoint_is_told_in_a_sentence(case, mbert, clip_of, tmp_path):
    change, message = BROKEN_NRCCR[case]
    checkpoint = nrccr_checkpoint("features", fine_tuned(mbert, 1), clip_of(5))
    change(checkpoint["model"])
    torch.save(checkpoint, tmp_path / "broken.pt")
    with pytest.raises(AdapterError, match=message):
        convert_checkpoint(tmp_path / "broken.pt", "de", tmp_path / "out", method="nrccr", base=mbert)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]


def test_the_methods_are_told_apart(dasd, mbert, clip_of, public, tokens, tmp_path):
    with pytest.raises(AdapterError, match="--from dasd"):
        convert_checkpoint(dasd()[0], "de", tmp_path / "out", method="nrccr", base=mbert)
    torch.save(nrccr_checkpoint("features", fine_tuned(mbert), clip_of(5)), tmp_path / "n.pt")
    with pytest.raises(AdapterError, match="--from nrccr"):
        convert(tmp_path / "n.pt", tmp_path / "out", public, tokens)
    with pytest.raises(ConfigError, match="`tokenizer` is not for nrccr"):
        convert_checkpoint(tmp_path / "n.pt", "de", tmp_path / "out", method="nrccr", tokenizer=tokens)
