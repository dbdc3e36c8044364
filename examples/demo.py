"""The whole way in one go: teach the tiny CLIP German, print what it learned, reload the adapter, draw what it finds.

python examples/demo.py
python examples/demo.py --language cs --output runs/demo_cs
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ccr_adapters import CCRModel
from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.cli.train import evaluate_model, run_recipe, visual_vectors
from ccr_adapters.data.corpus import load_corpus
from ccr_adapters.data.retrieval_set import RetrievalSet
from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import ResultBlock, console_table, contact_sheet, protocol_line

RECIPE = Path(__file__).parent / "configs" / "tiny_dasd_de.yaml"
NAMES = {"de": "German", "fr": "French", "cs": "Czech", "zh": "Chinese", "sw": "Swahili"}
QUERIES = 7


def found(
    model: CCRModel, asked: RetrievalSet, queries: list[int], code: str, language: str | None, visual: torch.Tensor
) -> dict[str, Any]:
    """The five best pictures for some captions, with marks and scores."""
    texts = [asked.captions[code][index] for index in queries]
    best = model.similarity(model.encode_text(texts, language), visual).topk(5)
    answers = [int(asked.caption_to_image[code][index]) for index in queries]
    return {
        "images": [[asked.pictures[int(i)] for i in row] for row in best.indices],
        "marks": [[int(i) == answer for i in row] for row, answer in zip(best.indices, answers, strict=True)],
        "scores": best.values.tolist(),
    }


def main(argv: list[str] | None = None) -> int:
    """Train, evaluate, reload, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default="de", choices=sorted(NAMES), help="target language of the tiny world")
    parser.add_argument("--output", type=Path, default=None, help="folder for everything; default runs/demo_LANGUAGE")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    # the bare tiny CLIP spells another language letter by letter; that long captions are cut there is part of its score
    logging.getLogger("ccr_adapters.processing.captions").setLevel(logging.ERROR)
    code, name = args.language, NAMES[args.language]
    output = args.output or Path("runs") / f"demo_{code}"
    started = time.perf_counter()
    recipe = load_recipe(RECIPE, [f"language={code}", f"output_dir={output}"])
    print(f"Rendering the tiny world and writing its captions in English and {name} ...", flush=True)
    corpus = load_corpus(recipe.data, code, recipe.seed)
    row = corpus.rows[0]
    print(f"  English caption       {row['caption']}")
    print(f"  machine translation   {row['translation']}")
    print(f"Training a {name} adapter for the tiny CLIP ...", flush=True)
    outcome = run_recipe(recipe, corpus)
    asked = corpus.test["test"]
    visual = visual_vectors(outcome.model, asked)

    print("\nReloading the adapter from its folder ...", flush=True)
    model = CCRModel.from_pretrained(outcome.adapter)
    again = model.encode_text(asked.captions[code][:64])
    same = torch.equal(again, outcome.model.encode_text(asked.captions[code][:64], code))
    print(f"  {outcome.adapter}: same vectors as before saving: {'yes' if same else 'NO'}")
    sizes = {path.name: path.stat().st_size for path in sorted(outcome.adapter.iterdir()) if path.is_file()}
    print("  " + ", ".join(f"{file} {size / 1e6:.2f} MB" for file, size in sizes.items() if size > 20_000))

    bare = CCRModel.from_base(recipe_base(model))
    english_before = evaluate_model(bare, asked, None, visual=visual)
    scores = outcome.metrics
    table = [
        {**english_before.to_dict(), "captions": "English", "model": "tiny CLIP as it comes"},
        {
            **evaluate_model(model, asked, None, visual=visual).to_dict(),
            "captions": "English",
            "model": f"with the {name} adapter",
        },
        {**scores[f"test/{code} before"].to_dict(), "captions": name, "model": "tiny CLIP as it comes"},
        {
            **evaluate_model(model, asked, code, visual=visual).to_dict(),
            "captions": name,
            "model": f"with the {name} adapter",
        },
    ]
    columns = {
        "captions": "captions",
        "model": "model",
        "t2i_r@1": "text to image R@1",
        "t2i_r@5": "R@5",
        "t2i_r@10": "R@10",
    }
    columns |= {
        "i2t_r@1": "image to text R@1",
        "i2t_r@5": "R@5 ",
        "i2t_r@10": "R@10 ",
        "sumR": "sum of recalls",
        "sumR_ci95": "95%",
    }
    print("\n" + console_table(table, columns))
    print(protocol_line(len(asked.image_ids), len(asked.captions[code])))
    share = table[3]["sumR"] / table[0]["sumR"]
    print(
        f"{name} reaches {share:.1%} of the English sum of recalls, with no {name} caption written by a person in training."
    )

    # any captions that fit beside their pictures
    short = [index for index, caption in enumerate(asked.captions[code]) if len(caption) < 90]
    chosen = random.Random(0).sample(short, QUERIES)
    glosses = [asked.captions["en"][index] for index in chosen] if code in ("zh", "sw") else None
    before, after = (
        found(own, asked, chosen, code, language, visual) for own, language in ((bare, None), (model, code))
    )
    path = contact_sheet(
        [asked.captions[code][index] for index in chosen],
        path=output / "contact_sheet.png",
        before=ResultBlock(before["images"], before["marks"], before["scores"], heading="Tiny CLIP as it comes"),
        images_for_query=after["images"],
        marks=after["marks"],
        scores=after["scores"],
        heading=f"With the {name} adapter",
        glosses=glosses,
        title=f"Searching 1,000 pictures in {name}",
        subtitle="An English-only CLIP learned the language from machine-translated captions alone.",
    )
    print(f"\nPicture: {path}\nAdapter: {outcome.adapter}\nThe demo took {time.perf_counter() - started:.0f} s.")
    return 0


def recipe_base(model: CCRModel) -> str:
    """Where a model's base lies."""
    return str(model.config.base_model_name_or_path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
