"""Search a folder of photos in German: index the pictures once, then ask, with English CLIP and with the adapter.

python examples/search_my_photos.py
python examples/search_my_photos.py --photos ~/Pictures --adapter org/dasd-clip-de --question "Ein Hund rennt durch den Schnee"

Without photos it renders some, and without an adapter it teaches the tiny CLIP German on rendered pictures: about a minute.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ccr_adapters import CCRModel, load_recipe, run_recipe
from ccr_adapters.data.tiny_world import render, sample_scenes
from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import ResultBlock, contact_sheet
from ccr_adapters.search import Collection, Hit, source_of
from ccr_adapters.search.encoder import PictureEncoder

RECIPE = Path(__file__).parent / "configs" / "tiny_transfer_de.yaml"
QUESTIONS = [
    "Drei kleine schwarze Fische am Strand",
    "Ein großes blaues Haus in der Nacht",
    "Ein rosa Ring vor einer Mauer",
    "Ein roter Stern links von einem grünen Herz",
]
SMALL = ["data.train=2000", "data.validation=20", "data.test=20", "arguments.max_steps=24"]
SMALL += [f"arguments.{name}_strategy='no'" for name in ("eval", "save", "logging")]
SMALL += ["arguments.load_best_model_at_end=false"]
QUICK = ["data.train=128", "arguments.per_device_train_batch_size=32", "arguments.max_steps=2"]


def rendered_photos(folder: Path, number: int) -> Path:
    """Pictures of the tiny world as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(sample_scenes(train=0, validation=0, test=number)["test"]):
        if not (path := folder / f"picture-{index:03d}.png").is_file():
            render(scene, size=192).save(path)
    return folder


def trained_adapter(folder: Path, quick: bool) -> Path:
    """A German adapter for the tiny CLIP, by the recipe of a few steps; one that is there is taken."""
    if not (folder / "adapter").is_dir():
        changes = [f"output_dir={folder}", *SMALL, *(QUICK if quick else [])]
        run_recipe(load_recipe(RECIPE, changes), evaluate=False)
    return folder / "adapter"


def found(collection: Collection, model: CCRModel, questions: list[str], language: str | None) -> list[list[Hit]]:
    """The five best pictures for each question."""
    return collection.search(model.encode_text(questions, language).numpy(), 5)


def main(argv: list[str] | None = None) -> int:
    """Index, ask, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of pictures; default: some are rendered")
    parser.add_argument("--adapter", help="folder or repository; default: one is trained for the tiny CLIP")
    parser.add_argument("--question", action="append", help="what to look for, in German; may be repeated")
    parser.add_argument("--output", type=Path, default=Path("runs/search_my_photos"), help="folder for everything")
    parser.add_argument("--quick", action="store_true", help="a few pictures and steps: does it run?")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    questions = args.question or QUESTIONS

    photos = args.photos or rendered_photos(args.output / "photos", 60 if args.quick else 400)
    if args.adapter is None:
        print("Teaching the tiny CLIP German ...", flush=True)
    adapter = str(args.adapter or trained_adapter(args.output / "training", args.quick))
    model = CCRModel.from_pretrained(adapter)

    print(f"Indexing {photos} ...", flush=True)
    encoder = PictureEncoder(model)
    with Collection.open_or_create(args.output / "photos.index", encoder, model=adapter) as collection:
        summary = collection.update([source_of(photos)], encoder)
        print(f"  {summary.total} pictures, {summary.encoded} encoded now, {summary.skipped} skipped")

        before, after = (found(collection, model, questions, language) for language in (None, "de"))
        for question, hits in zip(questions, after, strict=True):
            print(f"  {question}: {', '.join(hit.id.rpartition('/')[2] for hit in hits[:3])}")
        shown = [[[collection.picture(hit) for hit in hits] for hits in part] for part in (before, after)]
    sheet = contact_sheet(
        questions,
        shown[1],
        path=args.output / "found.png",
        before=ResultBlock(shown[0], scores=[[hit.score for hit in hits] for hits in before], heading="English CLIP"),
        scores=[[hit.score for hit in hits] for hits in after],
        heading="With the German adapter",
        title=f"{summary.total} pictures, asked in German",
        subtitle="One index serves both: the vectors of pictures do not depend on the language.",
    )
    print(f"\nPicture: {sheet}\nIndex:   {args.output / 'photos.index'}  (a second start encodes only what is new)")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CCRError as error:
        sys.exit(f"error: {error}")
