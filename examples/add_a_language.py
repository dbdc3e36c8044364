"""Teach a model a language from English captions and their machine translations: look at the noise, train, compare.

python examples/add_a_language.py
python examples/add_a_language.py --language sw

Without a corpus it takes that of the tiny world: rendered pictures, English captions, and what a translator with a small
dictionary makes of them, one word in ten wrong. `ccr-adapters add-language` does the same in one command, and translates too.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ccr_adapters import CCRModel, build_tiny_world, recipe_from_dict, run_recipe
from ccr_adapters.data.corpus import load_corpus
from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import console_table, protocol_line
from ccr_adapters.translation import noise_report


def tiny_corpus(folder: Path, language: str, quick: bool) -> Path:
    """A corpus in the form of your own: a folder of `datasets` with splits train, validation and test."""
    if not folder.is_dir():
        sizes = (
            {"train": 128, "validation": 20, "test": 40} if quick else {"train": 2000, "validation": 60, "test": 300}
        )
        build_tiny_world(language, **sizes, noise=0.1).save_to_disk(folder)
    return folder


def main(argv: list[str] | None = None) -> int:
    """Corpus, noise, training, table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--language", default="sw", help="code of the new language; the tiny world has de, fr, cs, zh, sw"
    )
    parser.add_argument("--corpus", type=Path, help="folder with train, validation and test; default: the tiny world's")
    parser.add_argument("--base", default="tiny_clip", help="model to teach: folder, repository, or tiny_clip")
    parser.add_argument("--output", type=Path, default=Path("runs/add_a_language"), help="folder for everything")
    parser.add_argument("--quick", action="store_true", help="a few pairs and steps: does it run?")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    # the bare base spells another language letter by letter; that long captions are cut there is part of its score
    logging.getLogger("ccr_adapters.processing.captions").setLevel(logging.ERROR)
    code, output = args.language, args.output / args.language

    folder = args.corpus or tiny_corpus(output / "corpus", code, args.quick)
    corpus = load_corpus({"path": str(folder)}, code)
    print(f"{len(corpus.rows):,} training pairs, for example:")
    for row in corpus.rows.select(range(3)):
        print(f"  {row['caption']}\n    {row['translation']}")

    report = noise_report(corpus.rows, code)
    report.write(output / "noise", plot=False)
    share = report.counts["any"] / len(corpus.rows)
    print(f"Of the translations {share:.1%} look wrong; {output / 'noise' / 'noise.md'} says which and why.")

    print("Training ...", flush=True)
    recipe = recipe_from_dict(
        {
            "base": args.base,
            "language": code,
            "method": "transfer",
            "data": {"path": str(folder)},
            "output_dir": str(output / "training"),
            "vocabulary": {"kind": "word", "size": 2000, "unknown": 0.3},
            "arguments": {
                "per_device_train_batch_size": 32 if args.quick else 128,
                "max_steps": 2 if args.quick else 32,
                "learning_rate": 2e-3,
                "vocabulary_learning_rate": 2e-3,
                "weight_decay": 0.0,
                "save_strategy": "no",
                "logging_strategy": "no",
            },
            "stages": [{"name": "joint"}],
        }
    )
    outcome = run_recipe(recipe, corpus)

    named = {
        "test/en": "English, as before",
        f"test/{code} before": f"{code}, base alone",
        f"test/{code}": f"{code}, learned",
    }
    rows = [{**outcome.metrics[name].to_dict(), "captions": text} for name, text in named.items()]
    print("\n" + console_table(rows, ["captions", "t2i_r@1", "t2i_r@10", "i2t_r@1", "i2t_r@10", "sumR", "sumR_ci95"]))
    learned = outcome.metrics[f"test/{code}"]
    print(protocol_line(learned.images, learned.captions))
    model = CCRModel.from_pretrained(outcome.adapter)
    size = sum(path.stat().st_size for path in outcome.adapter.rglob("*.safetensors")) / 1e6
    print(
        f"\nAdapter: {outcome.adapter}, {size:.1f} MB, languages {', '.join(model.languages)}, with a card (README.md)"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
