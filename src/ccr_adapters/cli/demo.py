"""`ccr-adapters demo`: the web page, which starts without any download."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccr_adapters.cli.collections import load_model, models_for, printable
from ccr_adapters.cli.places import check_folder

if TYPE_CHECKING:
    from ccr_adapters.demo import Caption
    from ccr_adapters.modeling import CCRModel
    from ccr_adapters.search import Collection

EXAMPLE = """\b
Example:
  ccr-adapters demo
  ccr-adapters demo --languages de,zh --open
  ccr-adapters demo --index photos.index --model org/dasd-clip-de --captions captions.csv
  ccr-adapters demo --languages de --space my_space
"""
_LIBRARIES = ("gradio", "matplotlib", "faiss")


def _codes(given: str | None) -> list[str]:
    """`de,zh` as a list."""
    codes = [] if given is None else [code.strip() for code in given.split(",")]
    return list(dict.fromkeys(code for code in codes if code))


def _adapters(codes: list[str]) -> list[Path]:
    """The tiny world's adapters of some languages."""
    from ccr_adapters.cli.demo_adapters import cached_adapter, demo_folder

    try:
        return [cached_adapter(code, demo_folder()) for code in codes]
    except KeyboardInterrupt:
        typer.echo("\nStopped. The same command goes on from the last checkpoint.", err=True)
        raise typer.Exit(130) from None


def _opened(index: str | None, model: list[str], codes: list[str], **where: Any) -> tuple[CCRModel, Collection]:
    """The model with its languages, and what it searches."""
    from ccr_adapters.cli.demo_adapters import demo_folder
    from ccr_adapters.demo.gallery import open_world
    from ccr_adapters.errors import ConfigError
    from ccr_adapters.search import Collection

    if index is None:
        loaded = _with_languages(load_model(model or ["tiny_clip"]), codes)
        return loaded, open_world(loaded, demo_folder())
    collection = Collection.open(index, **where)
    loaded = _with_languages(load_model(models_for(model, collection.notes.model)), codes)
    base = loaded.config.base_model_name_or_path
    collection.index.header.check_base(base, loaded.base_sha256(), f"The index '{index}'")
    if not loaded.languages:
        raise ConfigError(f"No language is loaded, only the base '{base}'. Give adapters with --model.")
    return loaded, collection


def _with_languages(model: CCRModel, codes: list[str]) -> CCRModel:
    from ccr_adapters.errors import ConfigError

    base = model.config.base_model_name_or_path
    wanted = [code for code in codes if code not in model.languages]
    if wanted and base != "tiny_clip":
        raise ConfigError(
            f"`--languages` trains adapters of the tiny CLIP, and the base here is '{base}'. Give its adapters with --model."
        )
    for folder in _adapters(wanted):
        model.load_language(folder)
    return model


def _captions(index: str | None, model: CCRModel) -> list[Caption]:
    """Those of the tiny world, where they mean something to the model."""
    from ccr_adapters.demo.world import world_captions

    if index is None:
        return world_captions(model.languages)
    if model.config.base_model_name_or_path != "tiny_clip":
        return []
    # about other pictures than those of the index
    return [replace(caption, picture="") for caption in world_captions(model.languages)]


def _check_address(host: str, port: int) -> None:
    """Refuse an address that nobody can listen on."""
    from ccr_adapters.errors import ConfigError

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            # as the server will: what a server of a moment ago has left there is no hindrance
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {host} cannot be served on ({error}). Choose others with --port and --host."
        ) from error


def _serve(page: Any, host: str, port: int, share: bool, open_: bool) -> None:
    """Serve until Ctrl-C."""
    from ccr_adapters.demo import launch
    from ccr_adapters.errors import ConfigError

    where: dict[str, Any] = {"server_name": host, "server_port": port, "share": share, "inbrowser": open_}
    try:
        _, local, public = launch(page, prevent_thread_lock=True, quiet=True, **where)
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {host} cannot be served on ({error}). Choose others with --port and --host."
        ) from error
    typer.echo(f"The page is {local}" + (f" and {public}" if public else "") + " (Ctrl-C stops it).")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo("\nStopped.")
    finally:
        page.close(verbose=False)


def demo(
    languages: Annotated[
        str | None, typer.Option(help="Of the tiny world, trained at the first start: de, fr, cs, zh, sw. Default: de.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Base or adapter; more add their languages. Default: tiny_clip.")
    ] = None,
    index: Annotated[str | None, typer.Option(help="What `index` has made. Default: 500 rendered pictures.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="CSV with caption and language (style, picture): to find and to explain by.")
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    share: Annotated[bool, typer.Option(help="Also under a public address, through Gradio's servers.")] = False,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = False,
    notes: Annotated[Path | None, typer.Option(help="Folder of the notes, for a cluster.")] = None,
    collection: Annotated[str, typer.Option(help="Name of the Milvus collection.")] = "pictures",
    token: Annotated[
        str | None, typer.Option("--milvus-token", envvar="MILVUS_TOKEN", help="Token of a Milvus cluster.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="Write the files of a Hugging Face Space into this folder, and serve nothing.")
    ] = None,
) -> None:
    """Search in a browser: results side by side, captions for a picture, and why; with nothing given, the tiny world."""
    from ccr_adapters.errors import ConfigError
    from ccr_adapters.extras import require

    # nothing is sent anywhere; Gradio asks for it when it is imported
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    for library in _LIBRARIES:
        require(library, extra="demo")
    codes = _codes(languages)
    if not codes and not model and not index:
        codes = ["de"]
    if space is not None:
        if model or index or captions or not codes:
            raise ConfigError(
                "`--space` writes the tiny world's page: give it --languages alone. Its README says more."
            )
        check_folder(space, "--space")
        if space.is_file() or (space.is_dir() and any(space.iterdir())):
            raise ConfigError(f"`--space {space}` is there already. Name a new folder, or an empty one.")
        _write_space(space, codes)
        return
    # what may be wrong comes before minutes of training
    from ccr_adapters.demo import read_captions

    given = None if captions is None else read_captions(captions)
    _check_address(host, port)
    loaded, opened = _opened(index, model or [], codes, notes=notes, token=token, collection=collection)
    told = _captions(index, loaded) if given is None else given
    from ccr_adapters.demo import build_page
    from ccr_adapters.demo.world import world_questions

    questions = world_questions(loaded.languages) if index is None else None
    with opened:
        about = _about(len(opened.index), index, loaded)
        page = build_page(loaded, opened, told, questions=questions, about=about)
        _serve(page, host, port, share, open_)


def _about(pictures: int, index: str | None, model: CCRModel) -> str:
    from ccr_adapters.demo.names import name_of

    what = "rendered pictures" if index is None else f"pictures of {printable(Path(index).name)}"
    base = printable(Path(model.config.base_model_name_or_path or "a base").name)
    spoken = ", ".join(name_of(code) for code in [*model.languages, "en"])
    return f"{pictures:,} {what}, encoded by {base}. Ask in {spoken}."


def _write_space(folder: Path, codes: list[str]) -> None:
    from ccr_adapters.demo.space import write_space

    adapters = _adapters(codes)
    files = write_space(folder, adapters, codes)
    typer.echo(
        f"The Space is in {folder} ({', '.join(path.name for path in files)}, adapters). Try it: python {files[0]}"
    )
    typer.echo(f"Publish it: hf upload OWNER/NAME {folder} --repo-type space")


demo.__doc__ = f"{demo.__doc__}\n\n{EXAMPLE}"
