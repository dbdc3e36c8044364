"""Pull over HTTP: only what was asked for, whole, checked, from the cache where it is, and one sentence where it is not."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.file_download as client
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModel, AutoProcessor

from ccr_adapters.errors import AdapterError, CCRError, HubError, LanguageError
from ccr_adapters.hub import pull_adapter, push_adapter
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing import CCRProcessor

OWNER, STRANGER = "hf_ownerownerowner", "hf_strangerstranger"
WEIGHTS, CONFIG, VOCABULARY = "adapter_model.safetensors", "config.json", "vocabulary.safetensors"


@pytest.fixture
def several(hub, saved, contents):
    """A repository of three languages."""
    hub.add("org/clip", contents(saved("de", "cs", "zh")))
    return hub


@pytest.fixture
def one(hub, saved, contents):
    """A repository of one language with a vocabulary."""
    hub.add("org/zh", contents(saved("zh")))
    return hub


def fetched(hub):
    """Paths of the files whose content was asked for."""
    found = [each.path for each in hub.requests("GET", "/resolve/|/storage/")]
    return {path.split("/", 5)[5] if "/resolve/" in path else path.split("/", 3)[3] for path in found}


def cached(cache):
    """Name and content of every file that a snapshot shows."""
    files = [path for path in cache.glob("models--*/snapshots/*/**/*") if path.is_file()]
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in files}


def whole(cache):
    """No link without a blob, no half file."""
    links = [path for path in cache.rglob("*") if path.is_symlink()]
    return all(path.exists() for path in links) and not list(cache.rglob("*.incomplete"))


def test_a_repository_comes_as_it_is(one, saved, contents):
    folder = pull_adapter("org/zh")
    assert contents(folder) == contents(saved("zh"))
    assert folder.name == one.repositories["org/zh"].branches["main"]


@pytest.mark.parametrize("asked", ["de", ["de"], ("zh", "de")])
def test_only_the_languages_asked_for_are_downloaded(asked, several, saved, contents, english):
    folder = pull_adapter("org/clip", asked)
    codes = {asked} if isinstance(asked, str) else set(asked)
    expected = {name for name in contents(saved("de", "cs", "zh")) if "/" not in name or name[:2] in codes}
    assert set(contents(folder)) == expected
    assert fetched(several) == expected
    assert CCRModel.from_pretrained(folder, languages=asked).languages == ([asked] if asked == "de" else list(asked))


def test_another_language_later_costs_only_its_own_files(several, english):
    model = CCRModel.from_pretrained("org/clip", languages=["de"])
    before = model.encode_text(english, "de")
    assert not [name for name in fetched(several) if name[:3] in ("cs/", "zh/")]
    several.seen.clear()
    assert model.load_language("org/clip", "zh") == ["zh"]
    assert {name[:3] for name in fetched(several)} == {"zh/"}
    assert torch.equal(model.encode_text(english, "de"), before)
    with pytest.raises(LanguageError, match="'org/clip' has no language 'fr'. It has: cs, de, zh"):
        model.load_language("org/clip", "fr")


def test_the_same_numbers_come_out(several, build, english):
    codes = ["de", "zh", None, "cs", "zh", "de"]
    expected = build("de", "cs", "zh").encode_text(english, codes)
    for load in (CCRModel.from_pretrained, AutoModel.from_pretrained):
        torch.testing.assert_close(load("org/clip").encode_text(english, codes), expected, rtol=0, atol=1e-6)
    chosen = CCRModel.from_pretrained("org/clip", languages=iter(["zh", "cs"]))
    assert chosen.languages == ["zh", "cs"]
    assert chosen.active_language == "zh"


def test_the_auto_class_passes_on_which_languages(several, english):
    model = AutoModel.from_pretrained("org/clip", languages=["de"])
    assert model.languages == ["de"]
    assert model.config.languages["de"].folder == "de"
    assert not [name for name in fetched(several) if name[:3] in ("cs/", "zh/")]
    assert AutoModel.from_pretrained("org/clip", languages="cs").languages == ["cs"]
    with pytest.raises(LanguageError, match="has no language 'fr'"):
        AutoModel.from_pretrained("org/clip", languages=["fr"])


def test_a_processor_comes_with_its_tokenizers_and_no_weights(several, build, german):
    for load in (CCRProcessor, AutoProcessor):
        processor = load.from_pretrained("org/clip")
        assert sorted(processor.languages) == ["cs", "de", "zh"]
        assert processor.token_ids(german, "zh") == build("zh").processor.token_ids(german, "zh")
    assert not [name for name in fetched(several) if name.endswith(".safetensors")]
    several.seen.clear()
    assert list(CCRProcessor.from_pretrained("org/clip", languages="de").languages) == ["de"]
    with pytest.raises(LanguageError, match="no language 'fr'. There are: cs, de, zh"):
        CCRProcessor.from_pretrained("org/clip", languages=["fr"])


@pytest.mark.parametrize("name", ["tokenizer.json", CONFIG])
def test_a_processor_is_not_built_from_wrong_bytes(name, one, cache, saved, contents):
    one.misbehave("GET", f"/resolve/.*/{name}", "wrong", None)
    with pytest.raises(HubError, match=f"'{name}' holds other bytes"):
        CCRProcessor.from_pretrained("org/zh")
    one.faults.clear()
    assert whole(cache)
    assert list(CCRProcessor.from_pretrained("org/zh").languages) == ["zh"]


def test_a_processor_of_something_else(hub, saved, contents):
    files = contents(saved("zh"))
    climbing = files[CONFIG].replace(b'"folder": ""', b'"folder": "../x"')
    hub.add("org/out", {**files, CONFIG: climbing})
    hub.add("org/cats", {CONFIG: b'{"model_type": "bert"}'})
    for name, message in (
        ("org/out", "points outside its repository"),
        ("org/cats", "holds a 'bert' model"),
        ("cats", "neither a folder here nor"),
    ):
        with pytest.raises(AdapterError, match=message):
            CCRProcessor.from_pretrained(name)


def test_a_subfolder_is_a_repository_of_its_own(hub, saved, contents, english):
    inner = {f"adapters/small/{name}": content for name, content in contents(saved("de", "zh")).items()}
    hub.add("org/many", {**inner, "adapters/large/big.safetensors": b"x" * 1000, CONFIG: b'{"model_type": "bert"}'})
    assert CCRModel.from_pretrained("org/many", subfolder="adapters/small", languages=["de"]).languages == ["de"]
    assert not [name for name in fetched(hub) if "large" in name or "/zh/" in name]
    with pytest.raises(AdapterError, match="points outside its repository"):
        CCRModel.from_pretrained("org/many", subfolder="../small")


def test_what_is_in_the_cache_is_not_fetched_again(one):
    first = pull_adapter("org/zh")
    one.seen.clear()
    assert pull_adapter("org/zh") == first
    assert fetched(one) == set()
    assert len(one.seen) <= 2  # which commit main is by now, and its listing where the client does not keep it


def test_a_new_commit_brings_only_what_changed(one, build, tmp_path):
    first = pull_adapter("org/zh")
    build("zh", seed=3).save_pretrained(tmp_path / "new")
    push_adapter(tmp_path / "new", "org/zh", token=OWNER)
    one.seen.clear()
    second = pull_adapter("org/zh")
    assert second != first
    assert fetched(one) <= {WEIGHTS, VOCABULARY, "README.md"}
    assert (second / WEIGHTS).read_bytes() == (tmp_path / "new" / WEIGHTS).read_bytes()
    assert pull_adapter("org/zh", revision=first.name) == first


def test_branches_tags_and_commits(one, saved, contents):
    commit = one.add("org/zh", contents(saved("de")), branch="other/one")
    assert pull_adapter("org/zh", revision="other/one").name == commit
    assert CCRModel.from_pretrained("org/zh", revision=commit[:40]).languages == ["de"]
    assert CCRModel.from_pretrained("org/zh").languages == ["zh"]
    with pytest.raises(HubError, match="'org/zh' has no revision 'nope'. Name a branch, a tag or a commit"):
        pull_adapter("org/zh", revision="nope")


def test_without_network_the_cache_serves(one, cache, monkeypatch, english):
    expected = CCRModel.from_pretrained("org/zh").encode_text(english)
    one.seen.clear()
    for offline in ({"local_files_only": True}, {}):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not offline)
        assert torch.equal(CCRModel.from_pretrained("org/zh", **offline).encode_text(english), expected)
    assert one.seen == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert pull_adapter("org/zh").is_dir()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_cold_cache_without_network(how, several, monkeypatch):
    pull_adapter("org/clip", "de")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "environment")
    only = {"local_files_only": how == "argument"}
    assert pull_adapter("org/clip", "de", **only).is_dir()
    message = "not in the cache.*downloads are off.*ccr-adapters pull org/"
    for name, code in (("org/clip", "zh"), ("org/clip", None), ("org/nobody", None)):
        with pytest.raises(HubError, match=message):
            pull_adapter(name, code, **only)


def test_a_hub_that_cannot_be_reached(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="Hub at http://127.0.0.1:9 cannot be reached for 'org/zh' .*not in the cache"):
        CCRModel.from_pretrained("org/zh")


def test_a_private_repository_needs_a_token_that_goes_nowhere_else(hub, saved, contents, cache, monkeypatch):
    hub.add("org/zh", contents(saved("zh")), private=True)
    for token in (None, STRANGER, "hf_unknownunknown"):
        with pytest.raises(HubError, match=r"no repository 'org/zh' that|No access to 'org/zh'") as caught:
            pull_adapter("org/zh", token=token)
        assert str(token) not in str(caught.value)
        assert not cached(cache)
    assert pull_adapter("org/zh", token=OWNER).is_dir()
    storage = hub.requests("GET", "/storage/")
    assert storage
    assert not [each for each in storage if "authorization" in each.headers]
    assert not [path for path in cache.rglob("*") if path.is_file() and OWNER.encode() in path.read_bytes()]
    monkeypatch.setenv("HF_TOKEN", OWNER)
    assert CCRModel.from_pretrained("org/zh", force_download=True).languages == ["zh"]


def test_a_gated_repository(hub, saved, contents):
    hub.add("org/zh", contents(saved("zh")))
    hub.repositories["org/zh"].gated = True
    with pytest.raises(HubError, match="'org/zh' is gated. Ask for access"):
        pull_adapter("org/zh", token=STRANGER)


FAILURES = {
    "not found": ("GET", "/api/models/org/zh", "status", 404, "404"),
    "not allowed": ("GET", "/api/models/org/zh", "status", 403, "No access to 'org/zh': the Hub answered 403"),
    "busy": ("GET", "/api/models/org/zh", "status", 503, "The Hub answered 503 for 'org/zh'.*Try again later"),
    "too often": ("GET", "/api/models/org/zh", "status", 429, "429 .*Try again later"),
    "no answer": ("GET", "/api/models/org/zh", "drop", None, "cannot be reached"),
    "storage busy": ("GET", "/storage/", "status", 503, "The Hub answered 503"),
    "storage forbids": ("GET", "/storage/", "status", 403, "No access to 'org/zh'"),
    "cut short": ("GET", f"/storage/.*/{WEIGHTS}", "short", 999, "came truncated, and was not kept"),
    "wrong bytes": ("GET", f"/storage/.*/{WEIGHTS}", "wrong", None, f"'{WEIGHTS}' holds other bytes.*taken out of the"),
    "wrong rows": ("GET", f"/storage/.*/{VOCABULARY}", "wrong", None, f"'{VOCABULARY}' holds other bytes"),
    "wrong tokens": ("GET", "/resolve/.*/tokenizer.json", "wrong", None, "'tokenizer.json' holds other bytes"),
    "wrong config": ("GET", "/resolve/.*/config.json", "wrong", None, "'config.json' holds other bytes"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_download_that_fails_leaves_the_cache_whole(case, one, cache, quick_retries, saved, contents):
    method, path, kind, value, message = FAILURES[case]
    one.misbehave(method, path, kind, value)
    with pytest.raises(HubError, match=message) as caught:
        CCRModel.from_pretrained("org/zh", token=OWNER)
    assert OWNER not in str(caught.value)
    assert whole(cache)
    expected = contents(saved("zh"))
    for name, content in cached(cache).items():
        assert content == expected[name.split("/", 3)[3]]
    one.faults.clear()
    assert contents(pull_adapter("org/zh")) == expected


def test_an_interrupted_download_goes_on_where_it_was(one, saved, contents, quick_retries, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # what the client writes at once, else 10 MB
    one.misbehave("GET", f"/storage/.*/{WEIGHTS}", "cut", 1000, times=3)
    assert contents(pull_adapter("org/zh")) == contents(saved("zh"))
    ranges = [each.headers.get("range") for each in one.requests("GET", f"/storage/.*/{WEIGHTS}")]
    assert ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_a_connection_that_always_breaks(one, cache, quick_retries):
    one.misbehave("GET", f"/storage/.*/{WEIGHTS}", "cut", 0)
    with pytest.raises(HubError, match="The Hub at .* cannot be reached"):
        pull_adapter("org/zh")
    assert whole(cache)


def test_a_download_that_is_killed_goes_on_later(one, cache, environment, saved, contents):
    one.misbehave("GET", f"/storage/.*/{VOCABULARY}", "stall", times=1)
    program = "from ccr_adapters.hub import pull_adapter; pull_adapter('org/zh')"
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        assert one.stalled.wait(60)
    finally:
        process.kill()
        process.wait()
    one.go_on.set()
    there = {name.split("/", 3)[3] for name in cached(cache)}
    assert CONFIG in there
    assert VOCABULARY not in there
    one.seen.clear()
    assert contents(pull_adapter("org/zh")) == contents(saved("zh"))
    assert fetched(one) & there == set()


def test_a_file_that_rots_in_the_cache_is_found_and_healed(one, saved, contents):
    folder = pull_adapter("org/zh")
    blob = (folder / WEIGHTS).resolve()
    content = bytearray(blob.read_bytes())
    content[-5] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(HubError, match="holds other bytes than its repository says.*taken out of the cache"):
        CCRModel.from_pretrained("org/zh", local_files_only=True)
    assert not blob.exists()
    assert contents(pull_adapter("org/zh")) == contents(saved("zh"))


class FullDisk:
    """A file on a disk without room."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, block):
        self.room -= len(block)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(block)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_in_the_middle(one, cache, monkeypatch, saved, contents):
    get = client.http_get
    with monkeypatch.context() as patch:
        patch.setattr(client, "http_get", lambda url, file, **how: get(url, FullDisk(file, 5000), **how))
        with pytest.raises(HubError, match="The disk is full: 'org/zh' could not be downloaded into .*make room"):
            pull_adapter("org/zh")
    assert whole(cache)
    assert contents(pull_adapter("org/zh")) == contents(saved("zh"))


def broken(files, **changes):
    """A repository's files with other ones; `None` takes one away."""
    files = {**files, **{name.replace("__", "."): content for name, content in changes.items()}}
    return {name: content for name, content in files.items() if content is not None}


def config_with(files, change):
    values = json.loads(files[CONFIG])
    change(values)
    return {**files, CONFIG: json.dumps(values).encode()}


BAD = {
    "no adapter": (lambda files: {"README.md": b"cats"}, "'org/bad' is no adapter repository: it has no 'config.json'"),
    "a pickle": (
        lambda files: {"pytorch_model.bin": b"x"},
        r"There is pytorch_model\.bin, but pickles are never opened",
    ),
    "empty": (lambda files: {}, "is no adapter repository"),
    "another model": (lambda files: {CONFIG: b'{"model_type": "bert"}'}, "The base 'org/bad' cannot be loaded"),
    "config no JSON": (lambda files: broken(files, config__json=b"{"), r"config\.json' is no valid JSON"),
    "newer": (
        lambda files: config_with(files, lambda v: v.update(colour=1)),
        "Unknown key.*colour.*update ccr-adapters",
    ),
    "weights as a pickle": (
        lambda files: broken(files, adapter_model__safetensors=None, adapter_model__bin=b"x"),
        f"'{WEIGHTS}' of language 'zh' is missing in 'org/bad'. There is adapter_model.bin, but pickles are never",
    ),
    "no weights": (lambda files: broken(files, adapter_model__safetensors=None), "is missing in 'org/bad'.$"),
    "no tokenizer": (lambda files: broken(files, tokenizer__json=None), "tokenizer"),
    "cut": (lambda files: broken(files, adapter_model__safetensors=files[WEIGHTS][:-3]), "truncated or no safetensors"),
    "climbs out": (lambda f: config_with(f, lambda v: v["languages"]["zh"].update(folder="../../x")), "points outside"),
    "absolute": (lambda f: config_with(f, lambda v: v["languages"]["zh"].update(folder="/etc")), "points outside"),
    "everything": (
        lambda f: config_with(f, lambda v: v["languages"]["zh"].update(folder="*")),
        "is missing in 'org/bad'",
    ),
    "other base": (lambda f: config_with(f, lambda v: v.update(base_sha256="0" * 64)), "other weights than the one"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_repository_is_told_in_a_sentence(case, hub, saved, contents):
    spoil, message = BAD[case]
    hub.add("org/bad", spoil(contents(saved("zh"))))
    with pytest.raises(CCRError, match=message):
        CCRModel.from_pretrained("org/bad")


def test_pickles_and_strangers_are_not_downloaded(hub, saved, contents):
    extra = {"optimizer.pt": b"x", "adapter_model.bin": b"x", "modeling_evil.py": b"x", "big.safetensors": b"x"}
    hub.add("org/zh", {**contents(saved("zh")), **extra})
    folder = pull_adapter("org/zh")
    assert set(contents(folder)) & set(extra) == set()
    assert CCRModel.from_pretrained("org/zh").languages == ["zh"]


def test_a_base_that_is_carried_along_comes_too(hub, bases, build, english, contents, tmp_path):
    model = build("de")
    model.config.base_model_name_or_path = "base"
    model.save_pretrained(tmp_path / "adapter")
    base = {f"base/{name}": content for name, content in contents(bases["clip"]).items()}
    hub.add("org/de", {**contents(tmp_path / "adapter"), **base})
    loaded = CCRModel.from_pretrained("org/de")
    torch.testing.assert_close(loaded.encode_text(english), model.encode_text(english), rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", [{"lazy": True}, {"max_languages": 1}, {"lazy": True, "languages": []}])
def test_a_base_that_is_carried_along_comes_before_any_language(how, hub, bases, build, english, contents, tmp_path):
    model = build("de")
    model.config.base_model_name_or_path = "base"
    model.save_pretrained(tmp_path / "adapter")
    base = {f"base/{name}": content for name, content in contents(bases["clip"]).items()}
    hub.add("org/de", {**contents(tmp_path / "adapter"), **base})
    loaded = CCRModel.from_pretrained("org/de", **how)
    assert loaded.encode_text(english, None).shape == (6, 24)
    if "languages" not in how:
        expected = model.encode_text(english, "de")
        torch.testing.assert_close(loaded.encode_text(english, "de"), expected, rtol=0, atol=1e-6)


def test_the_base_may_be_on_the_hub_too(hub, bases, build, english, contents, tmp_path):
    hub.add("org/base", contents(bases["clip"]), private=True)
    model = build("de", "zh")
    model.config.base_model_name_or_path = "org/base"
    model.save_pretrained(tmp_path / "adapter")
    push_adapter(tmp_path / "adapter", "org/clip", token=OWNER, private=True)
    loaded = CCRModel.from_pretrained("org/clip", token=OWNER)
    torch.testing.assert_close(loaded.encode_text(english, "zh"), model.encode_text(english, "zh"), rtol=0, atol=1e-6)
    hub.repositories["org/base"].private = False
    hub.seen.clear()
    again = CCRModel.from_pretrained("org/clip", token=OWNER, languages=["de"])
    assert again.languages == ["de"]
    assert fetched(hub) == set()


@pytest.mark.parametrize("name", ["zh", "a/b/c", "/no/such", ""])
def test_a_name_that_is_no_repository(name, hub):
    with pytest.raises(AdapterError, match="is no id of a repository"):
        pull_adapter(name)
    assert hub.seen == []
    assert Path(constants.HF_HUB_CACHE).exists() is False


def test_a_lazy_language_is_downloaded_on_first_use(several, build, english):
    model = CCRModel.from_pretrained("org/clip", languages=["de", "cs"], lazy=True)
    assert fetched(several) == {CONFIG, "README.md"}
    several.add(
        "org/clip", {CONFIG: b"{}"}
    )  # whatever is pushed later, a model stays with the commit that it began with
    several.seen.clear()
    found = model.encode_text(english, "cs")
    assert {name[:3] for name in fetched(several)} == {"cs/"}
    torch.testing.assert_close(found, build("de", "cs", "zh").encode_text(english, "cs"), rtol=0, atol=1e-6)
    assert model.languages == ["cs", "de"]


def test_languages_of_a_base_may_be_lazy_too(several, bases, english):
    model = CCRModel.from_pretrained(bases["clip"], languages={"de": "org/clip", "zh": "org/clip"}, lazy=True)
    assert model.loaded_languages == []
    assert model.encode_text(english[:2], ["zh", "de"]).shape == (2, 24)
    assert not [name for name in fetched(several) if name.startswith("cs/")]
    model.max_languages = 1
    assert len(model.loaded_languages) == 1


def test_a_language_that_made_room_comes_back_without_the_hub(several, english):
    model = CCRModel.from_pretrained("org/clip", languages=["de", "cs"], lazy=True, max_languages=1)
    before = model.encode_text(english, "cs")
    model.encode_text(english, "de")
    several.seen.clear()
    torch.testing.assert_close(model.encode_text(english, "cs"), before, rtol=0, atol=0)
    assert not several.seen
