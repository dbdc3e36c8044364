"""`ccr-adapters translate`: English captions into a pseudo-parallel data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccr_adapters.cli.places import check_device, check_folder

if TYPE_CHECKING:
    from ccr_adapters.translation import TranslationSummary, Translator

EXAMPLE = """\b
Example:
  ccr-adapters translate captions.jsonl data/de --model Helsinki-NLP/opus-mt-en-de --target de
  ccr-adapters translate captions.jsonl data/sw --model facebook/nllb-200-distilled-600M \\
      --back-model facebook/nllb-200-distilled-600M --target sw
"""
# As `ccr_adapters.translation.translator` has them; importing it here would make --help slow.
BATCH_SIZE = 32
NUM_BEAMS = 4
MAX_NEW_TOKENS = 128


def load_translators(
    model: str,
    back_model: str | None,
    source: str,
    target: str,
    device: str | None,
    dtype: str | None,
    revision: str | None,
) -> tuple[Translator, Translator | None]:
    """Load the translator and the one back, which is the same model if it has the same name.

    Args:
        model: Repository or folder; `NAME@REVISION` for one revision of a repository.
        back_model: The same, for the way back.
        source: Language of the captions.
        target: Language to translate into.
        device: Where they run; default: the accelerator if there is one.
        dtype: What they compute in, by name; default by device.
        revision: Of the model, where its name has none.

    Raises:
        TranslationError: If one cannot be loaded, there is no such dtype, or the model has two revisions.
    """
    import torch

    from ccr_adapters.errors import TranslationError
    from ccr_adapters.translation import Translator

    if dtype is not None and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise TranslationError(f"`--dtype` is '{dtype}'; expected float32, float16 or bfloat16.")
    name, own = name_and_revision(model)
    if own and revision and own != revision:
        raise TranslationError(f"`--model {model}` and `--revision {revision}` name two revisions; give one.")
    how: dict[str, Any] = {"device": device, "dtype": dtype}
    translator = Translator.from_pretrained(name, source=source, target=target, revision=own or revision, **how)
    if back_model is None:
        return translator, None
    back, back_revision = name_and_revision(back_model)
    if back == name and back_revision in (None, own or revision):
        return translator, translator.reversed()
    return translator, Translator.from_pretrained(back, source=target, target=source, revision=back_revision, **how)


def name_and_revision(model: str) -> tuple[str, str | None]:
    """`("org/name", "refs/pr/1")` for `org/name@refs/pr/1`; a folder may have an @ in its name."""
    if Path(model).exists():
        return model, None
    name, _, revision = model.partition("@")
    return name, revision or None


def tell_summary(summary: TranslationSummary, language: str, translator: str) -> None:
    """Print what was translated, and what could not be."""
    typer.echo(
        f"{summary.captions:,} different captions are translated into {language} by {translator}; "
        f"{summary.rows:,} rows are in {summary.folder}."
    )
    counts = summary.counts
    troubles = {
        "empty translations": summary.empty,
        "rows left out for that": summary.dropped,
        "captions cut at the longest input": counts.get("truncated", 0),
        "translations cut at --max-new-tokens": counts.get("unfinished", 0),
        "empty back-translations": counts.get("back_empty", 0),
    }
    found = [f"{count:,} {what}" for what, count in troubles.items() if count]
    if found:
        typer.echo(f"warning: {', '.join(found)}.", err=True)


def translate(
    rows: Annotated[Path, typer.Argument(metavar="INPUT", help="Captions: jsonl, csv, parquet, or a datasets folder.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder of the translated data set.")],
    model: Annotated[str, typer.Option(help="Translation model of transformers: NAME, NAME@REVISION or a folder.")],
    source: Annotated[str, typer.Option(help="Language of the captions.")] = "en",
    target: Annotated[str, typer.Option(help="Language to translate into: de, sw, zh, pt-BR, ...")] = "de",
    back_model: Annotated[
        str | None, typer.Option(help="Also translate back, with this model; may be the same if it knows both.")
    ] = None,
    caption_column: Annotated[str, typer.Option(help="Column of the captions.")] = "caption",
    split: Annotated[str, typer.Option(help="Split, where the input has several.")] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    drop_empty: Annotated[
        bool, typer.Option("--drop-empty/--keep-empty", help="Leave out rows whose translation is empty, or keep them.")
    ] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Most captions of one batch.")] = BATCH_SIZE,
    num_beams: Annotated[int, typer.Option(min=1, help="Beams of the search; 1 is greedy and fastest.")] = NUM_BEAMS,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest translation in tokens.")] = MAX_NEW_TOKENS,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; default: the accelerator if there is one.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16, bfloat16; default by device.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the model; or write --model NAME@REVISION.")
    ] = None,
) -> None:
    """Translate captions into a data set to train on; started again after a kill, it goes on where it was."""
    from ccr_adapters.translation import load_rows, translate_dataset
    from ccr_adapters.translation.rows import one_caption_a_row

    check_folder(output, "OUTPUT")
    check_device(device)
    data = load_rows(rows, split=split)
    one_caption_a_row(data.select(range(min(1, len(data)))), caption_column)  # refused before a model is loaded
    translator, back = load_translators(model, back_model, source, target, device, dtype, revision)
    summary = translate_dataset(
        data,
        output,
        translator,
        back,
        caption_column=caption_column,
        limit=limit,
        drop_empty=drop_empty,
        batch_size=batch_size,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
    )
    tell_summary(summary, target, translator.name)
    told = "" if source == "en" else f" --source {source}"
    typer.echo(f"How noisy they are: ccr-adapters noise-report {output}{told}")


translate.__doc__ = f"{translate.__doc__}\n\n{EXAMPLE}"
