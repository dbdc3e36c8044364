"""Convert a checkpoint that the authors of DASD released, and hold the adapter to the paper's equations.

python examples/convert_checkpoint.py
python examples/convert_checkpoint.py --checkpoint pytorch_model.bin.5000 --language de

Without a checkpoint it writes a small one with random weights, in the layout of the authors' code, and its CLIP and tokenizer
beside it. `ccr-adapters convert` is the same as a command.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast
from transformers.models.clip import CLIPImageProcessorPil

from ccr_adapters import CCRModel
from ccr_adapters.errors import CCRError
from ccr_adapters.hub import convert_checkpoint

WIDTH, CONTEXT, BLOCKS, NARROW, RANK, CONDITION = 64, 16, 3, 24, 4, 32
CAPTIONS = ["ein Hund rennt", "zwei Hunde im Schnee", "ein roter Ball", "Schnee"]


def small_clip(folder: Path) -> CLIPModel:
    """A CLIP with random weights, and a tokenizer that knows the words above; mBERT's part is played by the same one."""
    words = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", *sorted({word for caption in CAPTIONS for word in caption.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    special = {"pad_token": "[PAD]", "bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    CLIPImageProcessorPil(size={"height": 16, "width": 16}, do_center_crop=False).save_pretrained(folder)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 128, "num_attention_heads": 1, "projection_dim": WIDTH}
    text = {"vocab_size": len(words), "max_position_embeddings": CONTEXT, "num_hidden_layers": BLOCKS}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    vision = {"image_size": 16, "patch_size": 8, "num_hidden_layers": 1}
    config = CLIPConfig(text_config={**sizes, **text}, vision_config={**sizes, **vision}, projection_dim=WIDTH)
    clip = CLIPModel(config).eval()
    clip.save_pretrained(folder)
    return clip


def authors_checkpoint(clip: CLIPModel, language: str) -> dict[str, Tensor]:
    """What DASD's training adds to the CLIP, with random values under the names of the authors' code."""
    shapes = {
        **{f"{norm}.{kind}": (WIDTH,) for norm in ("ln_mu", "ln_sigma") for kind in ("weight", "bias")},
        "sr_projection": (WIDTH, WIDTH),
        "multilingual_embedding.weight": (clip.config.text_config.vocab_size, NARROW),
        "multilingual_embedding_linear.weight": (WIDTH, NARROW),
        "multilingual_embedding_linear.bias": (WIDTH,),
        "transformer.zi_adapter_student.c_fc1.weight": (CONDITION, 2 * WIDTH),
        "transformer.zi_adapter_student.c_fc1.bias": (CONDITION,),
        "AdvAgent.discriminator.model.0.weight": (8, 2 * WIDTH),  # trains, and is not needed afterwards
    }
    for block in (f"transformer.resblocks.{index}" for index in range(BLOCKS)):
        own = f"{block}.acquirer.{language}"
        shapes |= {f"{block}.mlp_zi.c_fc1.weight": (RANK**2, CONDITION), f"{block}.mlp_zi.c_fc1.bias": (RANK**2,)}
        shapes |= {f"{own}.mlp_beforez.c_fc.weight": (RANK, WIDTH), f"{own}.mlp_beforez.c_fc.bias": (RANK,)}
        shapes |= {f"{own}.mlp_afterz.c_proj2.weight": (WIDTH, RANK), f"{own}.mlp_afterz.c_proj2.bias": (WIDTH,)}
    return {name: torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}


@torch.no_grad()
def by_the_equations(ids: list[int], clip: CLIPModel, state: dict[str, Tensor], language: str) -> Tensor:
    """The vector of one caption, from the tensors of the checkpoint, without this package. -> (d,)"""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])

    encoder, end = clip.text_model, len(ids) - 1
    rows = state["multilingual_embedding.weight"][ids + [0] * (CONTEXT - len(ids))]
    start = linear(rows, "multilingual_embedding_linear") + encoder.embeddings.position_embedding.weight  # (L, w)
    causal = torch.full((1, 1, CONTEXT, CONTEXT), float("-inf")).triu(1)

    def block(x: Tensor, index: int) -> Tensor:
        found = encoder.encoder.layers[index](x[None], attention_mask=causal)
        return (found[0] if isinstance(found, tuple) else found).view(CONTEXT, WIDTH)

    prefix = block(block(start, 0), 1)
    related = norm(prefix, "ln_mu")[end] @ state["sr_projection"]
    agnostic = norm(prefix, "ln_sigma").mean(dim=0)
    z = linear(torch.cat([related, agnostic]), "transformer.zi_adapter_student.c_fc1")
    z = z * torch.sigmoid(1.702 * z)
    x = start
    for index in range(BLOCKS):
        name = f"transformer.resblocks.{index}"
        x = block(x, index)
        core = linear(z, f"{name}.mlp_zi.c_fc1").view(RANK, RANK)
        down = linear(x, f"{name}.acquirer.{language}.mlp_beforez.c_fc")
        x = x + linear(torch.relu(down @ core), f"{name}.acquirer.{language}.mlp_afterz.c_proj2")
    return F.normalize(clip.text_projection(encoder.final_layer_norm(x)[end]), dim=-1)


def main(argv: list[str] | None = None) -> int:
    """Convert, load, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="what the authors' train.py wrote; default: a small random one")
    parser.add_argument("--base", help="CLIP that it was trained on, where the file does not tell; default: OpenAI's")
    parser.add_argument("--language", default="de", help="its language, by the name in the file")
    parser.add_argument("--output", type=Path, default=Path("runs/convert_checkpoint"), help="folder for everything")
    parser.add_argument("--quick", action="store_true", help="nothing to shorten: it takes seconds")
    args = parser.parse_args(argv)
    adapter = args.output / f"dasd-{args.language}"
    if args.checkpoint is not None:
        print(convert_checkpoint(args.checkpoint, args.language, adapter, method="dasd", base=args.base).to_text())
        return 0

    torch.manual_seed(0)
    clip = small_clip(args.output / "clip")
    state, file = authors_checkpoint(clip, args.language), args.output / "pytorch_model.bin.500"
    torch.save(state, file)
    shutil.rmtree(adapter, ignore_errors=True)  # of the last start: a conversion writes into no folder that has files
    print(f"Wrote {file}: {len(state)} tensors under the authors' names.")
    converted = convert_checkpoint(
        file, args.language, adapter, method="dasd", base=args.output / "clip", tokenizer=args.output / "clip"
    )
    print(converted.to_text())

    model = CCRModel.from_pretrained(adapter)
    ids = model.processor.token_ids(CAPTIONS, args.language)
    expected = torch.stack([by_the_equations(list(row), clip, state, args.language) for row in ids])
    vectors = model.encode_text(CAPTIONS, args.language)
    print("\nThe adapter against the equations of the paper, computed from the checkpoint:")
    for caption, own, theirs in zip(CAPTIONS, vectors, expected, strict=True):
        print(f"  {caption:<22} largest difference {float((own - theirs).abs().max()):.1e}")
    same = torch.allclose(vectors, expected, atol=1e-5)
    print(f"{'The same vectors' if same else 'OTHER VECTORS'}.\n\nAdapter: {adapter}")
    return 0 if same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
