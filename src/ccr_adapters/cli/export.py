"""`ccr-adapters export`: a language as other programs run it; ONNX is compared with the model before it is written."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ccr_adapters.cli.places import check_folder

if TYPE_CHECKING:
    from ccr_adapters.modeling import CCRModel

EXAMPLE = """\b
Example:
  ccr-adapters export runs/de/adapter --language de --output exports/de
  ccr-adapters export org/dasd-clip-de --tower both --int8 --output exports/de-int8
  ccr-adapters export runs/de/adapter --format sentence-transformers --output exports/de-st
"""
# by one of these an earlier export is known, which may be replaced
_EXPORTED = ("export.json", "modules.json", "text.pt2", "image.pt2")


class Format(str, Enum):
    """What to write."""

    ONNX = "onnx"
    TORCH = "torch"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


class Tower(str, Enum):
    """Which half of the model."""

    TEXT = "text"
    IMAGE = "image"
    BOTH = "both"


def export(
    adapter: Annotated[str, typer.Argument(help="Folder or repository of an adapter, or of a base.")],
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    language: Annotated[str | None, typer.Option(help="Default: the only one there is; en is the base.")] = None,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.ONNX,
    tower: Annotated[Tower, typer.Option(help="Which half of the model; for onnx and torch.")] = Tower.TEXT,
    int8: Annotated[bool, typer.Option("--int8", help="onnx: the text tower's weights as bytes.")] = False,
    opset: Annotated[int | None, typer.Option(help="onnx: version of the operators.")] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="sentence-transformers: the whole base with the adapter in it.")
    ] = False,
    captions: Annotated[
        Path | None, typer.Option(help="onnx: captions to compare by, one a line; default: made of tokens.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: HF_TOKEN, or what `hf auth login` keeps.")] = None,
) -> None:
    """Write a language for onnxruntime (compared with the model), torch.export or sentence-transformers."""
    from ccr_adapters.errors import ConfigError

    for name, given, wanted in (
        ("--int8", int8, Format.ONNX),
        ("--opset", opset is not None, Format.ONNX),
        ("--captions", captions is not None, Format.ONNX),
        ("--merged", merged, Format.SENTENCE_TRANSFORMERS),
    ):
        if given and form is not wanted:
            raise ConfigError(f"`{name}` goes with --format {wanted.value}, not with {form.value}.")
    check_folder(output)
    check_earlier(output)
    compared = None if captions is None else read_captions(captions)
    model, code = load_language(adapter, language, revision=revision, token=token)
    if form is Format.ONNX:
        from ccr_adapters.export import export_onnx
        from ccr_adapters.export.parity import table

        reports = export_onnx(model, code, output, tower=tower.value, opset=opset, int8=int8, captions=compared)
        typer.echo(table(reports))
    elif form is Format.TORCH:
        from ccr_adapters.export import save_program

        for name in ("text", "image") if tower is Tower.BOTH else (tower.value,):
            save_program(model, code, output / f"{name}.pt2", tower=name)
    else:
        from ccr_adapters.export import save_sentence_transformer

        save_sentence_transformer(model, output, code, merged=merged)
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        typer.echo(f"{path}  {path.stat().st_size / 1e3:,.0f} kB", err=True)


def check_earlier(output: Path) -> None:
    """Refuse a folder with files that no export wrote: an adapter's, whose configuration or tokenizer would be replaced.

    Raises:
        ConfigError: Naming one of its files.
    """
    from ccr_adapters.errors import ConfigError

    there = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if there and not set(there) & set(_EXPORTED):
        raise ConfigError(f"`--output {output}` holds files that no export wrote ({there[0]}). Name another folder.")


def load_language(adapter: str, language: str | None, **hub: str | None) -> tuple[CCRModel, str | None]:
    """Load a model with the one language that is exported.

    Args:
        adapter: Folder or repository of an adapter, or of a base.
        language: The language that was asked for; `None` for the only one there is.
        hub: `revision` and `token`.

    Returns:
        The model, and the language's code; `None` for the base.

    Raises:
        LanguageError: If it is not there, or has to be chosen.
    """
    from transformers.utils import logging

    from ccr_adapters.configuration import BASE_LANGUAGES
    from ccr_adapters.errors import LanguageError
    from ccr_adapters.modeling import CCRModel
    from ccr_adapters.modeling.download import local_folder
    from ccr_adapters.modeling.registry import is_base
    from ccr_adapters.processing.repository import hub_arguments, read_config

    logging.disable_progress_bar()
    how = hub_arguments(hub)
    if is_base(adapter, how):
        model = CCRModel.from_base(adapter, **how)
        return model, model.resolve_language(language)
    there = list(read_config(local_folder(adapter, how, [])).languages)
    if language is None and len(there) != 1:
        raise LanguageError(f"The adapter has {len(there)} languages ({', '.join(there)}); choose one with --language.")
    asked = [code for code in [language or there[0]] if code in there or code not in BASE_LANGUAGES]
    model = CCRModel.from_pretrained(adapter, languages=asked, **how)
    return model, next(iter(asked), None)


def read_captions(path: Path) -> list[str]:
    """Captions of a file, one a line, empty lines left out.

    Raises:
        DataError: If the file is missing, no text, or empty.
    """
    from ccr_adapters.errors import DataError

    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read ({error}); expected captions in UTF-8, one a line.") from error
    found = [line for line in lines if line]
    if not found:
        raise DataError(f"'{path}' holds no caption; expected one a line.")
    return found


export.__doc__ = f"{export.__doc__}\n\n{EXAMPLE}"
