"""What every test shares: no network, no files left behind, fixed seeds, tiny backbones of each kind.

The backbones have real architectures and random weights: 3 blocks of width 32 over 200 tokens, a shared space
of 24 (not 32, so that a mix-up of width and embedding shows). All agree on the special tokens below.
"""

# ruff: noqa: E402 - the environment is set before the libraries that read it are imported

from __future__ import annotations

import os
import tempfile

# Read by huggingface_hub, datasets and torch when they are imported.
_HOME = tempfile.TemporaryDirectory(prefix="ccr-adapters-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = _HOME.name
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import importlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipTextModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.models.clip import CLIPImageProcessorPil

Model = TypeVar("Model", bound=nn.Module)
RandomBatch = Callable[..., dict[str, Tensor]]

PAD, BOS, UNKNOWN, EOS = 0, 1, 2, 3  # never eos=2 for CLIP: transformers then pools at argmax(input_ids)
VOCABULARY = 200
WIDTH = 32
EMBEDDING = 24
MAX_LENGTH = 24

ENGLISH = [
    "a dog runs through the snow",
    "two men sit on a red bench",
    "the cat sleeps",
    "a child holds a blue balloon in the park",
    "three birds fly over the sea",
    "a woman reads a book under an old tree",
]
GERMAN = [
    "ein Hund rennt durch den Schnee",
    "zwei Männer sitzen auf einer roten Bank",
    "die Katze schläft",
    "ein Kind hält im Park einen blauen Ballon",
    "drei Vögel fliegen über das Meer",
    "eine Frau liest unter einem alten Baum ein Buch",
]

_SPECIAL = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
_TRANSFORMER = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}
_TEXT = {**_TRANSFORMER, **_SPECIAL, "vocab_size": VOCABULARY, "max_position_embeddings": MAX_LENGTH}
_VISION = {**_TRANSFORMER, "image_size": 16, "patch_size": 8}


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Give each test the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries still draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the package keeps of its own stays out of the user's home."""
    monkeypatch.setenv("CCR_ADAPTERS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def _factory(build: Callable[[], Model]) -> Callable[[], Model]:
    """Build a model once, from its own seed, and hand out deep copies in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = build().eval()
        # Fresh biases are zero and fresh norms the identity; trained ones are not, and must be seen in tests.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return lambda: copy.deepcopy(model)


@pytest.fixture(scope="session")
def tiny_clip() -> Callable[[], CLIPModel]:
    """Factory of a tiny CLIP with both towers."""
    config = CLIPConfig(
        text_config={**_TEXT, "projection_dim": EMBEDDING},
        vision_config={**_VISION, "projection_dim": EMBEDDING},
        projection_dim=EMBEDDING,
    )
    return _factory(lambda: CLIPModel(config))


@pytest.fixture(scope="session")
def tiny_clip_text() -> Callable[[], CLIPTextModelWithProjection]:
    """Factory of a tiny CLIP text tower with its projection."""
    config = CLIPTextConfig(**_TEXT, projection_dim=EMBEDDING)
    return _factory(lambda: CLIPTextModelWithProjection(config))


@pytest.fixture(scope="session")
def tiny_siglip() -> Callable[[], SiglipModel]:
    """Factory of a tiny SigLIP with both towers; its vision tower is as wide as the shared space."""
    config = SiglipConfig(
        text_config={**_TEXT, "projection_size": EMBEDDING},
        vision_config={**_VISION, "hidden_size": EMBEDDING},
    )
    return _factory(lambda: SiglipModel(config))


@pytest.fixture(scope="session")
def tiny_siglip_text() -> Callable[[], SiglipTextModel]:
    """Factory of a tiny SigLIP text tower with its head; it pools at the last position."""
    config = SiglipTextConfig(**_TEXT, projection_size=EMBEDDING)
    return _factory(lambda: SiglipTextModel(config))


@pytest.fixture(scope="session")
def tiny_bert() -> Callable[[], BertModel]:
    """Factory of a tiny BERT."""
    config = BertConfig(**_TEXT)
    return _factory(lambda: BertModel(config))


@pytest.fixture(scope="session")
def tiny_xlmr() -> Callable[[], XLMRobertaModel]:
    """Factory of a tiny XLM-R; its positions start after the padding token's id."""
    config = XLMRobertaConfig(**{**_TEXT, "max_position_embeddings": MAX_LENGTH + PAD + 1})
    return _factory(lambda: XLMRobertaModel(config))


@pytest.fixture(scope="session")
def random_batch() -> RandomBatch:
    """Function that makes a batch of random captions: bos, words, eos, padding."""

    def make(vocab: int = VOCABULARY, B: int = 4, L: int = 10, *, seed: int = 0) -> dict[str, Tensor]:
        """Make a batch of mixed lengths: the first caption fills its row, the second is as short as can be.

        Args:
            vocab: Size of the vocabulary; words are drawn from above the special tokens.
            B: Captions.
            L: Tokens of the longest, at least 3.
            seed: Same seed, same batch.

        Returns:
            `input_ids` and `attention_mask`, both (B, L).
        """
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(3, L + 1, (B,), generator=generator)  # (B,)
        lengths[:1], lengths[1:2] = L, 3
        position = torch.arange(L).expand(B, L)  # (B, L)
        last = lengths[:, None] - 1  # (B, 1)
        input_ids = torch.randint(EOS + 1, vocab, (B, L), generator=generator)  # (B, L)
        input_ids[:, 0] = BOS
        input_ids[position == last] = EOS
        input_ids[position > last] = PAD
        return {"input_ids": input_ids, "attention_mask": (position <= last).long()}

    return make


def make_tokenizer(texts: list[str], special: list[str], size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Train a small BPE tokenizer that writes `[BOS] ... [EOS]`; special tokens get the first ids, in their order."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, special_tokens=special))
    marks = [(token, tokenizer.token_to_id(token)) for token in ("[BOS]", "[EOS]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", bos_token="[BOS]", unk_token="[UNK]", eos_token="[EOS]"
    )


@pytest.fixture(scope="session")
def english() -> list[str]:
    """English captions, of different lengths."""
    return list(ENGLISH)


@pytest.fixture(scope="session")
def german() -> list[str]:
    """Their translations."""
    return list(GERMAN)


@pytest.fixture(scope="session")
def base_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the bases; its special tokens are those of their configurations."""
    return make_tokenizer(ENGLISH, ["[PAD]", "[BOS]", "[UNK]", "[EOS]"])


@pytest.fixture(scope="session")
def german_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of its own for German; its end token has another id than the bases', below that of its padding."""
    return make_tokenizer(GERMAN, ["[UNK]", "[EOS]", "[BOS]", "[PAD]"], size=120)


def _folder(name: str, model: nn.Module, tokenizer: PreTrainedTokenizerFast, home: Path, *, sees: bool) -> Path:
    folder = home / name
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if sees:
        size = {"height": 16, "width": 16}
        CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bases(tiny_clip, tiny_siglip, tiny_bert, tiny_xlmr, base_tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Folders with whole bases as they come from a hub: `clip`, `siglip`, `bert` and `xlmr`. Not to be written to."""
    home = tmp_path_factory.mktemp("bases")
    built = {"clip": tiny_clip, "siglip": tiny_siglip, "bert": tiny_bert, "xlmr": tiny_xlmr}
    return {
        name: _folder(name, build(), base_tokenizer, home, sees=name in ("clip", "siglip"))
        for name, build in built.items()
    }


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures, or frames, go through the image tower of a model, pass by pass."""
    from ccr_adapters.modeling import CCRModel

    counts: list[int] = []
    tower = CCRModel.get_image_features

    def counted(self, pixel_values, **kwargs):
        counts.append(len(pixel_values))
        return tower(self, pixel_values, **kwargs)

    monkeypatch.setattr(CCRModel, "get_image_features", counted)
    return counts


@pytest.fixture(scope="session")
def photos() -> ModuleType:
    """The pictures and the German words of `tests/search/photos.py`."""
    sys.path.insert(0, str(Path(__file__).parent / "search"))
    try:
        return importlib.import_module("photos")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="session")
def german_adapter(photos: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an adapter that reads those words. Not to be written to."""
    return photos.write_german(tmp_path_factory.mktemp("adapters") / "de")


@pytest.fixture(scope="module")
def programs() -> Iterator[Callable[[str], ModuleType]]:
    """Function that loads a benchmark as a module; benchmarks/ is no package."""
    folder = Path(__file__).parents[1] / "benchmarks"
    before = set(sys.modules)
    sys.path.insert(0, str(folder))

    def load(name: str) -> ModuleType:
        # by another name: a room of the tests may have the same
        spec = importlib.util.spec_from_file_location(f"{name}_under_test", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
