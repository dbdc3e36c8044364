"""Push over HTTP: what arrives is what was written, in one commit or not at all; what cannot be loaded is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors.torch import load
from transformers import AutoModel, AutoTokenizer

from ccr_adapters.configuration import VocabularyConfig
from ccr_adapters.dasd import DASDConfig
from ccr_adapters.errors import AdapterError, CCRError, ConfigError, HubError
from ccr_adapters.hub import pull_adapter, push_adapter
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.upload import UNNAMED

OWNER, STRANGER = "hf_ownerownerowner", "hf_strangerstranger"
WEIGHTS, CONFIG = "adapter_model.safetensors", "config.json"


@pytest.fixture
def copied(saved, tmp_path):
    """Function that copies an adapter folder, to be changed."""

    def copy(*codes):
        return shutil.copytree(saved(*codes), tmp_path / "copy")

    return copy


def test_a_folder_arrives_as_it_is_in_one_commit(hub, saved, contents):
    folder = saved("zh")
    pushed = push_adapter(folder, "org/clip-zh", token=OWNER)
    repository = hub.repositories["org/clip-zh"]
    expected = contents(folder)
    expected["README.md"] = expected["README.md"].replace(UNNAMED.encode(), b'"org/clip-zh"')
    arrived = repository.files()
    assert arrived.pop(".gitattributes")
    assert arrived == expected
    assert b'from_pretrained("org/clip-zh")' in arrived["README.md"]
    assert UNNAMED.encode() in contents(folder)["README.md"]  # the folder itself is untouched
    assert (pushed.repo_id, pushed.commit) == ("org/clip-zh", repository.branches["main"])
    assert pushed.files == len(expected)
    assert pushed.size == sum(map(len, expected.values()))
    assert len(hub.requests("POST", "/commit/")) == 1
    assert not repository.private


def test_what_was_pulled_can_be_pushed_on(hub, saved):
    """Its files in the cache are links."""
    push_adapter(saved("zh", "de"), "org/clip", token=OWNER)
    push_adapter(pull_adapter("org/clip"), "org/copy", token=OWNER)
    first, copy = (hub.repositories[name].files() for name in ("org/clip", "org/copy"))
    assert copy == first


def test_a_repository_without_an_owner_is_the_tokens(hub, saved):
    assert push_adapter(saved("de"), "clip-de", token=OWNER, private=True).repo_id == "org/clip-de"
    assert hub.repositories["org/clip-de"].private


def test_a_branch_is_made_where_there_is_none(hub, saved):
    push_adapter(saved("de"), "org/clip", token=OWNER)
    before = hub.repositories["org/clip"].branches["main"]
    push_adapter(saved("zh"), "org/clip", token=OWNER, revision="try/zh", replace=True, commit_message="another")
    branches = hub.repositories["org/clip"].branches
    assert branches["main"] == before != branches["try/zh"]
    assert "vocabulary.safetensors" in hub.repositories["org/clip"].files("try/zh")


def test_pushing_again_changes_nothing(hub, saved):
    first = push_adapter(saved("de"), "org/clip", token=OWNER)
    assert push_adapter(saved("de"), "org/clip", token=OWNER).commit == first.commit
    assert len(hub.requests("PUT", "/upload/")) == 1


def test_what_was_there_of_the_same_languages_is_gone(hub, saved, copied):
    hub.add("org/clip", {"notes.md": b"mine"})
    push_adapter(saved("zh"), "org/clip", token=OWNER)
    assert "tokenizer.json" in hub.repositories["org/clip"].files()
    push_adapter(saved("zh", "de"), "org/clip", token=OWNER)
    found = set(hub.repositories["org/clip"].files())
    assert {name for name in found if "/" not in name} == {"README.md", CONFIG, "notes.md"}
    assert {f"zh/{WEIGHTS}", f"de/{WEIGHTS}", "zh/tokenizer.json"} <= found


def test_languages_that_only_the_repository_has_go_where_that_is_asked_for(hub, saved):
    push_adapter(saved("zh", "de"), "org/clip", token=OWNER)
    push_adapter(saved("de"), "org/clip", token=OWNER, replace=True)
    assert not [name for name in hub.repositories["org/clip"].files() if name.startswith(("zh/", "de/"))]


FOREIGN = {
    "a model": ({CONFIG: b'{"model_type": "bert"}'}, "something else than adapters"),
    "no JSON": ({CONFIG: b"{"}, "something else than adapters"),
    "another adapter": ({"adapter_config.json": b"{}"}, "an adapter of another kind"),
    "newer": ({CONFIG: b'{"model_type": "ccr", "colour": 1}'}, "format that this version cannot read.*colour"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_repository_of_something_else_is_left_alone(case, hub, saved):
    files, message = FOREIGN[case]
    commit = hub.add("org/other", files)
    with pytest.raises(AdapterError, match=message):
        push_adapter(saved("de"), "org/other", token=OWNER)
    assert hub.repositories["org/other"].branches == {"main": commit}


DEATHS = {
    "in the commit": ("POST", "/commit/", "die", None, "cannot be reached.*whole or not at all"),
    "before its answer": ("POST", "/commit/", "drop", None, "cannot be reached.*whole or not at all"),
    "commit refused": ("POST", "/commit/", "status", 500, "The Hub answered 500.*Try again later"),
    "somebody was faster": ("POST", "/commit/", "status", 412, "changed by somebody else meanwhile"),
    "in the upload": ("PUT", "/upload/", "status", 400, "The Hub answered 400"),
    "upload forbidden": ("PUT", "/upload/", "status", 403, "No access to 'org/clip'"),
    "in the batch": ("POST", "/objects/batch", "status", 404, "404"),
    "in preupload": ("POST", "/preupload/", "status", 403, "No access to 'org/clip'.*may not write it"),
    "in create": ("POST", "/repos/create", "drop", None, "cannot be reached"),
}


@pytest.mark.parametrize("case", DEATHS)
def test_a_push_that_dies_leaves_the_repository_as_it_was(case, hub, build, saved, tmp_path):
    push_adapter(saved("de"), "org/clip", token=OWNER)
    repository = hub.repositories["org/clip"]
    head, before = dict(repository.branches), repository.files()
    method, path, kind, value, message = DEATHS[case]
    hub.misbehave(method, path, kind, value)
    build("de", seed=2).save_pretrained(tmp_path / "new")
    with pytest.raises(HubError, match=message) as caught:
        push_adapter(tmp_path / "new", "org/clip", token=OWNER)
    assert OWNER not in str(caught.value)
    assert repository.branches == head
    assert repository.files() == before
    hub.faults.clear()
    push_adapter(tmp_path / "new", "org/clip", token=OWNER)
    assert repository.files()[WEIGHTS] == (tmp_path / "new" / WEIGHTS).read_bytes() != before[WEIGHTS]


def test_a_push_between_ours_is_noticed(hub, saved, monkeypatch):
    push_adapter(saved("de"), "org/clip", token=OWNER)
    repository, fault = hub.repositories["org/clip"], type(hub).fault

    def commit_in_between(self, method, path):
        if "/preupload/" in path:
            hub.add("org/clip", {**repository.files(), "notes.md": b"somebody was here"})
        return fault(self, method, path)

    monkeypatch.setattr(type(hub), "fault", commit_in_between)
    with pytest.raises(HubError, match="changed by somebody else meanwhile"):
        push_adapter(saved("zh"), "org/clip", token=OWNER, replace=True)
    assert "notes.md" in repository.files()


@pytest.mark.parametrize("token", [None, STRANGER, "hf_unknownunknown", "hf_two\nlines"])
def test_who_may_not_write_is_told_without_the_token(token, hub, saved):
    commit = hub.add("org/clip", {"notes.md": b"mine"})
    with pytest.raises(HubError) as caught:
        push_adapter(saved("de"), "org/clip", token=token)
    error, told = caught.value, ""
    while error is not None:
        told, error = f"{told} {error}", error.__cause__
    assert token is None or token not in told.replace("\\n", "\n")
    assert hub.repositories["org/clip"].branches == {"main": commit}


def change(name, old, new):
    def apply(folder):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return apply


def without_hash(folder):
    values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**values, "base_sha256": None}), encoding="utf-8")


BAD = {
    "no folder": (shutil.rmtree, "is no folder"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), r"'config\.json' is missing.*adapter repository\?"),
    "another model": (change(CONFIG, '"ccr"', '"bert"'), "holds a 'bert' model"),
    "no language": (change(CONFIG, '"languages": {', '"languages": {}, "pooling": null, "x": {'), "Unknown key"),
    "no hash": (without_hash, "does not say which weights its base has.*is None; expected 64"),
    "a cut hash": (change(CONFIG, '"base_sha256": "', '"base_sha256": "x'), "does not say which weights its base has"),
    "a pickle": (
        lambda folder: (folder / "adapter_model.bin").write_bytes(b"x"),
        r"holds a pickle, adapter_model\.bin",
    ),
    "a pickle alone": (lambda folder: (folder / WEIGHTS).rename(folder / "x.pt"), "holds a pickle"),
    "a stranger": (lambda folder: (folder / ".env").write_text("TOKEN=1"), r"do not belong to an adapter.*: \.env\."),
    "a link": (
        lambda folder: (folder / "LICENSE").symlink_to("/etc/hostname"),
        "'LICENSE' in .* is a link that leads out",
    ),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"'{WEIGHTS}' is missing"),
    "cut": (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-3]), "truncated"),
    "climbs out": (change(CONFIG, '"folder": ""', '"folder": "../x"'), "points outside"),
    "no card": (lambda folder: (folder / "README.md").unlink(), "The card 'README.md' is missing"),
    "a broken card": (change("README.md", "license: ", "license: ["), "YAML at the top of .* is broken"),
    "another card": (change("README.md", '"ccr-adapters"', '"cats"'), "lacks the tag 'ccr-adapters'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_before_anything_is_sent(case, hub, copied):
    spoil, message = BAD[case]
    folder = copied("de")
    spoil(folder)
    with pytest.raises(CCRError, match=message):
        push_adapter(folder, "org/clip", token=OWNER)
    assert hub.seen == []


def test_a_card_that_only_the_hub_finds_wrong(hub, saved):
    hub.unwelcome = "a language that there is not"
    with pytest.raises(
        HubError, match="could not be written: Invalid metadata in README.md. - a language that there is"
    ):
        push_adapter(saved("de"), "org/clip", token=OWNER)


def test_a_name_that_is_none(hub, saved):
    with pytest.raises(HubError, match="'a/b/c' is no id of a repository"):
        push_adapter(saved("de"), "a/b/c", token=OWNER)
    with pytest.raises(AdapterError, match="dtype, row_tolerance: for models only"):
        push_adapter(saved("de"), "org/clip", token=OWNER, dtype=torch.float16, row_tolerance=0.1)


def test_a_model_is_pushed_as_it_would_be_saved(hub, build, english):
    model = build("de", "zh")
    evidence = {"training": {"data": "a few cats", "seed": 7}}
    for push in (
        lambda name, **how: push_adapter(model, name, token=OWNER, **how),
        lambda name, **how: model.push_to_hub(name, token=OWNER, **how),
    ):
        push("org/clip-de", language="de", dtype=torch.float16, evidence=evidence)
        files = hub.repositories["org/clip-de"].files()
        assert {tensor.dtype for tensor in load(files[WEIGHTS]).values()} == {torch.float16}
        card = files["README.md"].decode()
        assert "a few cats" in card
        assert 'from_pretrained("org/clip-de")' in card
        assert ModelCard(card).data.language == ["de"]
        assert not [name for name in files if name.startswith("zh")]
        del hub.repositories["org/clip-de"]
    model.push_to_hub("org/clip", token=OWNER, private=True)
    loaded = CCRModel.from_pretrained("org/clip", token=OWNER)
    assert sorted(loaded.languages) == ["de", "zh"]
    torch.testing.assert_close(loaded.encode_text(english, "zh"), model.encode_text(english, "zh"), rtol=0, atol=1e-6)


@pytest.fixture
def beside(bases, tmp_path, monkeypatch):
    """A model on a base in a folder of its own, as a clone of a repository is, named by a path from here."""
    shutil.copytree(bases["clip"], tmp_path / "models/clip")
    for name in ("README.md", ".gitattributes", "pytorch_model.bin"):
        (tmp_path / "models/clip" / name).write_bytes(b"x" * 100)
    monkeypatch.chdir(tmp_path)
    model = CCRModel.from_base("models/clip")
    model.add_language("de", DASDConfig(r=4))
    return model


def test_a_base_that_lies_here_alone_goes_along(beside, hub, english, tmp_path, monkeypatch, caplog):
    beside.push_to_hub("org/de", token=OWNER)
    assert "lies on this machine, and goes along (" in caplog.text
    files = hub.repositories["org/de"].files()
    assert "base/model.safetensors" in files
    assert not {"base/README.md", "base/.gitattributes", "base/pytorch_model.bin"} & files.keys()
    assert json.loads(files["config.json"])["base_model_name_or_path"] == "base"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = CCRModel.from_pretrained("org/de")
    expected = beside.encode_text(english, "de")
    torch.testing.assert_close(loaded.encode_text(english, "de"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_rows_that_did_not_move_stay_at_home(tolerance, hub, bases):
    source = AutoModel.from_pretrained(bases["bert"]).get_input_embeddings().weight.detach()
    plan = VocabularyConfig(len(source), source.shape[1], train="all", source=str(bases["bert"]))
    tokenizer = AutoTokenizer.from_pretrained(bases["bert"])
    model = CCRModel.from_base(bases["clip"])
    model.add_language("de", DASDConfig(r=4), tokenizer=tokenizer, vocabulary=plan, source=source)
    model.vocabularies["de"].table.weight.data[[3, 7]] += 0.01
    push_adapter(model, "org/clip-de", token=OWNER, row_tolerance=tolerance)
    pushed = load(hub.repositories["org/clip-de"].files()["vocabulary.safetensors"])
    if tolerance is None:
        assert pushed["table"].shape == source.shape
    else:
        assert pushed["ids"].tolist() == [3, 7]
    with pytest.raises(ConfigError, match="`row_tolerance` is -1"):
        model.push_to_hub("org/other", token=OWNER, row_tolerance=-1)
    assert "org/other" not in hub.repositories


def test_saving_with_push_sends_exactly_what_was_written(hub, build, tmp_path, contents):
    model = build("de", "zh")
    folder = tmp_path / "clip-zh"
    folder.mkdir()
    (folder / "diary.txt").write_text("private", encoding="utf-8")
    model.save_pretrained(
        folder,
        language="zh",
        dtype=torch.float16,
        evidence={"training": {"data": "a few cats"}},
        push_to_hub=True,
        repo_id="org/clip-zh",
        token=OWNER,
        private=True,
        max_shard_size="5GB",
    )
    written, arrived = contents(folder), hub.repositories["org/clip-zh"].files()
    del arrived[".gitattributes"], written["diary.txt"]
    written["README.md"] = written["README.md"].replace(UNNAMED.encode(), b'"org/clip-zh"')
    assert arrived == written
    assert "vocabulary.safetensors" in arrived
    assert b"a few cats" in arrived["README.md"]
    assert {tensor.dtype for tensor in load(arrived[WEIGHTS]).values()} == {torch.float16}
    assert hub.repositories["org/clip-zh"].private


def test_a_push_without_network_is_not_told_to_pull(hub, saved, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="not asked for 'org/clip', since HF_HUB_OFFLINE is set. Unset it"):
        push_adapter(saved("de"), "org/clip", token=OWNER)
