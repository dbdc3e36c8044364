"""What the tests of the Hub share: the server, a client that knows no other, and adapters to send."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub.utils._http as client_http
import pytest
import torch
import transformers.utils.hub as transformers_hub
from huggingface_hub import constants, file_download
from huggingface_hub.utils import close_session
from torch import nn
from transformers import CLIPModel

from ccr_adapters.dasd import DASDConfig
from ccr_adapters.modeling import CCRModel


def _neighbour(file: str, name: str) -> ModuleType:
    """A file beside this one as a module, which the tests then import by that name; tests/ is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


server = _neighbour("server.py", "hub_test_server")
dasd_authors = _neighbour("original_dasd.py", "original_dasd")
nrccr_authors = _neighbour("original_nrccr.py", "original_nrccr")

OWNER, STRANGER = "hf_ownerownerowner", "hf_strangerstranger"


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Any]:
    """The server; `huggingface_hub` in this process knows no other, has an empty cache and no token."""
    home = tmp_path / "hf_home"
    with server.HubServer() as running:
        # read from the environment when the client was imported; its functions look here at every call
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(transformers_hub, "_hf_api", None, raising=False)  # made once, with the address of then
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        close_session()
        yield running
    close_session()


@pytest.fixture
def cache(hub, tmp_path) -> Path:
    """The client's cache."""
    return tmp_path / "hf_home/hub"


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    """The same for another process, as users set it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING_FACE"))}
    return {
        **kept,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf_home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }


@pytest.fixture
def quick_retries(monkeypatch) -> None:
    """The client waits 23 seconds between its attempts; here it does not."""
    impatient = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    for module in (client_http, file_download):
        monkeypatch.setattr(module, "time", impatient)


@pytest.fixture(scope="session")
def stirred() -> Callable[..., nn.Module]:
    """Function that changes the weights of all languages, so that a silent re-initialisation shows."""

    def change(model: nn.Module, seed: int = 1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "dasd_" in name or name.startswith("vocabularies"):
                parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
        return model

    return change


@pytest.fixture(scope="session")
def build(bases, german_tokenizer, stirred) -> Callable[..., CCRModel]:
    """Function that builds a model of some languages; `zh` has a vocabulary of its own."""

    def make(*codes: str, seed: int = 1) -> CCRModel:
        torch.manual_seed(0)
        model = CCRModel.from_base(bases["clip"])
        for code in codes:
            own = german_tokenizer if code == "zh" else None
            model.add_language(code, DASDConfig(r=4, generator_rank=4), tokenizer=own)
        return stirred(model, seed)

    return make


@pytest.fixture(scope="session")
def saved(build, tmp_path_factory) -> Callable[..., Path]:
    """Function that gives the folder of an adapter with some languages, built once. Not to be written to."""
    made: dict[tuple[str, ...], Path] = {}

    def get(*codes: str) -> Path:
        if codes not in made:
            made[codes] = tmp_path_factory.mktemp("-".join(codes)) / "adapter"
            build(*codes).save_pretrained(made[codes])
        return made[codes]

    return get


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Function that reads a folder: content by path."""

    def read(folder: Path) -> dict[str, bytes]:
        found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    return read


@pytest.fixture(scope="session")
def clip_of() -> Callable[[int], CLIPModel]:
    """Function that builds a CLIP with heads of width 64, as OpenAI's are."""
    return dasd_authors.clip_like_openais


@pytest.fixture(scope="session")
def public(clip_of, base_tokenizer, tmp_path_factory) -> Path:
    """The CLIP that everybody can download."""
    return dasd_authors.save_clip(clip_of(5), base_tokenizer, tmp_path_factory.mktemp("public"))


@pytest.fixture(scope="session")
def tokens(german_tokenizer, tmp_path_factory) -> Path:
    """The tokenizer that the checkpoint's table goes with; its padding has the id 3."""
    folder = tmp_path_factory.mktemp("tokens")
    german_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dasd(clip_of, german_tokenizer, tmp_path_factory):
    """Function that writes a checkpoint, on the public CLIP or on one that was fine-tuned first: file, CLIP, tensors."""

    def make(seed: int = 5):
        clip = clip_of(seed)
        state = dasd_authors.dasd_state(clip, len(german_tokenizer))
        path = tmp_path_factory.mktemp("dasd") / "pytorch_model.bin.500"
        torch.save(state, path)
        return path, clip, state

    return make


@pytest.fixture(scope="session")
def mbert(tmp_path_factory) -> Path:
    """A BERT with a cased vocabulary that holds lower-case words, as mBERT's does in part."""
    return nrccr_authors.save_mbert(tmp_path_factory.mktemp("mbert"))
