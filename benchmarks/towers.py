"""The encoders that speed is measured on: text and image towers of published sizes, with random weights.

Speed does not depend on the weights' values. The vocabulary is the one that the captions give, in every row alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.models.clip import CLIPImageProcessorPil

from ccr_adapters.dasd import DASDConfig, find_text_encoder
from ccr_adapters.dasd.layer import DASDLayer
from ccr_adapters.modeling import CCRModel
from ccr_adapters.processing.processor import CCRProcessor

LONGEST = 77
LANGUAGE = "de"


@dataclass(frozen=True)
class Size:
    """A published size.

    Args:
        width: Of the text tower.
        heads: Of the text tower.
        embedding: Width of the shared space.
        vision: Width, blocks, heads and patch of the image tower; `None`: there is none.
        blocks: Of the text tower.
    """

    width: int
    heads: int
    embedding: int
    vision: tuple[int, int, int, int] | None
    blocks: int = 12


SIZES = {
    "vit-b-32": Size(512, 8, 512, (768, 12, 12, 32)),
    "vit-b-16": Size(512, 8, 512, (768, 12, 12, 16)),
    "vit-l-14": Size(768, 12, 768, (1024, 24, 16, 14)),
    "xlm-r-base": Size(768, 12, 768, None),
    "tiny": Size(64, 4, 64, (64, 2, 4, 32), blocks=3),
}
BARE, LORA, STATIC, FULL_GENERATOR = "bare encoder", "LoRA r=16", "static acquirer", "authors' schedule"
DYNAMIC, FREE = "DASD", "DASD, adapt_from=1"


def adapter_of(row: str) -> Any:
    """The adapter of a row; `None` for the bare encoder."""
    return {
        BARE: None,
        LORA: LoraConfig(r=16),
        STATIC: DASDConfig(mode="static"),
        DYNAMIC: DASDConfig(),
        FREE: DASDConfig(adapt_from=1),
        FULL_GENERATOR: DASDConfig(generator_rank=None),
    }[row]


ROWS = (BARE, LORA, STATIC, DYNAMIC, FREE, FULL_GENERATOR)


def text_tower(size: Size, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A text tower with random weights, always the same ones."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_hidden_layers": size.blocks,
        "num_attention_heads": size.heads,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if size.vision is None:
        return XLMRobertaModel(XLMRobertaConfig(**sizes, max_position_embeddings=514)).eval()
    return CLIPTextModelWithProjection(CLIPTextConfig(**sizes, projection_dim=size.embedding)).eval()


def image_config(size: Size) -> CLIPVisionConfig:
    """An image tower's sizes."""
    if size.vision is None:
        raise SystemExit("This size has no image tower.")
    width, blocks, heads, patch = size.vision
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        patch_size=patch,
        projection_dim=size.embedding,
    )


def image_tower(size: Size) -> CLIPVisionModelWithProjection:
    """An image tower with random weights."""
    return CLIPVisionModelWithProjection(image_config(size)).requires_grad_(False).eval()


def save_base(size: Size, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a whole base, as people download it: both towers where there are two."""
    base = text_tower(size, tokenizer)
    if size.vision is not None:
        text, vision = base.config.to_dict(), image_config(size).to_dict()
        base = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.embedding))
        CLIPImageProcessorPil().save_pretrained(str(folder))
    base.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def model_of(row: str, size: Size, tokenizer: PreTrainedTokenizerBase, device: str = "cpu") -> CCRModel:
    """A model with the adapter of a row, untrained, as its language."""
    model = CCRModel.from_base(text_tower(size, tokenizer), processor=CCRProcessor(tokenizer))
    if row != BARE:
        model.add_language(LANGUAGE, adapter_of(row), tokenizer=tokenizer)
    if row == FULL_GENERATOR:
        _look_through_one_block(model)
    return model.to(device).eval()


def _look_through_one_block(model: nn.Module) -> None:
    """Leave the prefix to `prefix_passes`; the main pass then needs none but its own first block."""
    for layer in model.modules():
        if isinstance(layer, DASDLayer):
            for settings in layer.dasd_settings.values():
                settings.prefix_blocks = 1


@torch.no_grad()
def prefix_passes(model: CCRModel, input_ids: Tensor) -> None:
    """What the published schedule does beside the main pass: two passes of their own over the frozen prefix."""
    encoder = find_text_encoder(model.base)
    embeddings: Any = encoder.module.embeddings
    causal = {} if isinstance(encoder.module, XLMRobertaModel) else {"is_causal": True}
    for _ in range(2):
        states = embeddings(input_ids=input_ids)
        for block in encoder.blocks[:2]:
            inner: Any = block.get_base_layer() if isinstance(block, DASDLayer) else block
            found = inner(states, None, **causal)
            states = found[0] if isinstance(found, tuple) else found
