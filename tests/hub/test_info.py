"""Info: every byte has its part and its language, the same here and on the Hub, where no weights are downloaded."""

from __future__ import annotations

import json
import pickle
import struct

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, HubError
from ccr_adapters.hub import adapter_info, pull_adapter, push_adapter
from ccr_adapters.modeling import CCRModel

OWNER = "hf_ownerownerowner"


@pytest.fixture
def folder(bases, german_tokenizer, tmp_path):
    """Two languages; one has a table of another width than the encoder's, and so a projection."""
    model = CCRModel.from_base(bases["clip"])
    model.add_language("zh", DASDConfig(r=4), tokenizer=german_tokenizer, vocabulary=VocabularyConfig(120, 20))
    model.add_language("de", DASDConfig(mode="static", r=8))
    model.config.languages["de"].recipe = {"method": "mla"}
    model.save_pretrained(tmp_path / "adapter", dtype=torch.float16)
    return tmp_path / "adapter"


def test_every_byte_has_its_place(folder, contents):
    info = adapter_info(folder)
    files = contents(folder)
    assert info.size == sum(map(len, files.values())) == sum(info.by_part().values())
    assert {file.path: file.size for file in info.files} == {name: len(content) for name, content in files.items()}
    table = load_file(folder / "zh/vocabulary.safetensors")
    projection = sum(tensor.numel() * 2 for key, tensor in table.items() if key.startswith("projection"))
    parts = info.by_part("zh")
    assert parts["projection"] == projection == 2 * (32 * 20 + 32)
    assert parts["vocabulary rows"] == len(files["zh/vocabulary.safetensors"]) - projection >= 120 * 20 * 2
    assert parts["adapter"] == len(files["zh/adapter_model.safetensors"])
    assert parts["tokenizer"] == len(files["zh/tokenizer.json"]) + len(files["zh/tokenizer_config.json"])
    assert set(info.by_part("de")) == {"adapter", "configuration"}
    assert info.by_part("")["card"] == len(files["README.md"])
    assert info.languages == ("de", "zh")


def test_base_and_methods_are_told(folder, bases):
    info = adapter_info(folder)
    assert info.base == str(bases["clip"])
    assert info.base_sha256 == CCRModel.from_base(bases["clip"]).base_sha256()
    assert info.methods == {"zh": "DASD (dynamic), r = 4", "de": "DASD (static), r = 8, trained as MLA"}
    told = info.to_text()
    assert f"{info.size:,}" in told
    assert info.base_sha256 in told
    assert json.loads(json.dumps(info.to_dict()))["parts"] == info.by_part()


def test_what_dominates_comes_first(folder):
    info = adapter_info(folder)
    shares, parts = info.shares(), info.by_part()
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)
    assert list(shares) == sorted(parts, key=parts.get, reverse=True)
    assert shares["adapter"] == round(100 * parts["adapter"] / info.size, 1)
    rows = [line for line in info.to_text().splitlines() if line.endswith("%")]
    assert rows[0].startswith(next(iter(shares)))
    assert rows[0].endswith(f"{next(iter(shares.values())):.1f}%")
    assert rows[-1].startswith("together")
    assert json.loads(json.dumps(info.to_dict()))["shares"] == shares


def test_an_adapter_is_split_into_pieces(folder):
    info = adapter_info(folder)
    parts, pieces = info.by_part("zh"), info.by_piece("zh")
    tensors = load_file(folder / "zh/adapter_model.safetensors")

    def counted(*names):
        return sum(each.numel() * 2 for key, each in tensors.items() if any(name in key for name in names))

    assert pieces["bottlenecks"] == counted("dasd_bottleneck") == 2 * 3 * (2 * 4 * 32 + 4 + 32)
    assert pieces["disentangler"] == counted("dasd_disentangler")
    assert pieces["condition"] == counted("dasd_generator.condition") == 2 * 512 * (2 * 24 + 1)
    assert pieces["generator"] == counted("mixture.weight", "cores.weight") == 2 * 128 * (512 + 3 * 4 * 4)
    assert pieces["shared cores"] == counted("cores.bias") == 2 * 3 * 4 * 4
    assert sum(pieces.values()) == parts["adapter"]
    assert 0 < pieces["header"] < 5000
    assert set(info.by_piece("de")) == {"bottlenecks", "header"}  # static: nothing is generated
    assert sum(info.by_piece().values()) == info.by_part()["adapter"]
    assert json.loads(json.dumps(info.to_dict()))["pieces"] == info.by_piece()
    rows = [line for line in info.to_text().splitlines() if line.startswith("  generator, z to cores")]
    assert rows == [next(iter(rows))]
    assert rows[0].endswith(f"{100 * pieces['generator'] / info.size:.1f}%")


@pytest.mark.parametrize("rank", [None, 16, 7])
def test_what_another_rank_of_the_generator_would_save(rank, bases, tmp_path):
    sizes = {}
    for each in (rank, 16):
        model = CCRModel.from_base(bases["clip"])
        model.add_language("de", DASDConfig(r=8, generator_rank=each))
        model.save_pretrained(tmp_path / str(each))
        sizes[each] = adapter_info(tmp_path / str(each)).by_piece()["generator"]
    found = adapter_info(tmp_path / str(rank))
    assert found.generators["de"].rank == rank
    assert found.generators["de"].size(16) == sizes[16]
    assert found.generators["de"].size(rank) == sizes[rank]
    assert f" {sizes[rank]:,}*" in found.to_text()
    assert f" {sizes[16]:,}" in found.to_text()


def test_other_methods_have_no_pieces(bases, tmp_path):
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", LoraConfig(target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "lora")
    info = adapter_info(tmp_path / "lora")
    assert (info.by_piece(), info.generators) == ({}, {})
    assert "generator" not in info.to_text()


BROKEN = {
    "cut in the data": lambda content: content[: len(content) // 2],
    "cut in the header": lambda content: content[:50],
    "a pickle": lambda content: pickle.dumps({"weight": [1.0]}),
    "empty": lambda content: b"",
    "an endless header": lambda content: struct.pack("<Q", 2**62) + content[8:],
    "a header of nonsense": lambda content: struct.pack("<Q", 12) + b'{"a": [1,2]}',
    "a list for a header": lambda content: struct.pack("<Q", 2) + b"[]",
    "offsets of nothing": lambda content: content.replace(b'"data_offsets":[', b'"data_offsets":["x",', 1),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("name", ["adapter_model", "vocabulary"])
def test_broken_weights_are_told_here_and_on_the_hub(name, case, folder, hub):
    path = folder / f"zh/{name}.safetensors"
    path.write_bytes(BROKEN[case](path.read_bytes()))
    with pytest.raises(AdapterError, match=rf"{name}\.safetensors' is truncated or no safetensors file"):
        adapter_info(folder)
    hub.add("org/clip", {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")})
    with pytest.raises(AdapterError, match=rf"{name}\.safetensors' .*is truncated or no safetensors file"):
        adapter_info("org/clip")


def test_the_hub_tells_the_same_without_a_download(folder, hub, cache):
    push_adapter(folder, "org/clip", token=OWNER, private=True)
    hub.seen.clear()
    here, there = adapter_info(folder), adapter_info("org/clip", token=OWNER)
    assert there.methods == here.methods
    assert there.revision == hub.repositories["org/clip"].branches["main"]
    ours = {
        file.path: (file.size, file.parts, file.pieces, file.generator)
        for file in here.files
        if file.path != "README.md"
    }
    theirs = {file.path: (file.size, file.parts, file.pieces, file.generator) for file in there.files}
    assert theirs.items() >= ours.items()
    hashes = {file.path: file.sha256 for file in here.files}
    known = {file.path: file.sha256 for file in there.files if file.sha256}
    assert known.items() <= hashes.items()
    assert "zh/adapter_model.safetensors" in known
    storage = hub.requests("GET", "/storage/")
    assert [each.headers["range"] for each in storage] == ["bytes=0-100000"] * 3  # two adapters and a vocabulary
    assert not list(cache.glob("models--*/snapshots/*/*/*.safetensors"))
    with pytest.raises(HubError, match="no repository 'org/clip'"):
        adapter_info("org/clip")


def test_of_what_is_in_the_cache(folder, hub):
    push_adapter(folder, "org/clip", token=OWNER)
    pull_adapter("org/clip", "de")
    info = adapter_info("org/clip", local_files_only=True)
    assert info.methods == {"zh": "not downloaded", "de": "DASD (static), r = 8, trained as MLA"}
    assert set(info.by_part("zh")) == set()


def test_what_is_no_adapter_is_told(folder, hub, tmp_path):
    with pytest.raises(AdapterError, match="'config.json' is missing"):
        adapter_info(tmp_path)
    with pytest.raises(AdapterError, match="neither a folder here nor"):
        adapter_info("nowhere")
    hub.add("org/cats", {"cats.txt": b"miaow"})
    with pytest.raises(AdapterError, match="'org/cats' is no adapter repository"):
        adapter_info("org/cats")
    (folder / "zh/vocabulary.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(AdapterError, match="truncated or no safetensors file"):
        adapter_info(folder)
