"""`ccr-adapters serve`: captions and pictures as vectors, and a collection to search, over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ccr_adapters.cli.collections import models_for, printable
from ccr_adapters.cli.places import check_device

if TYPE_CHECKING:
    from ccr_adapters.search import Collection
    from ccr_adapters.serving.engine import Engine
    from ccr_adapters.serving.gallery import Gallery

EXAMPLE = """\b
Example:
  ccr-adapters serve --model tiny_clip
  ccr-adapters serve --model org/dasd-clip-de --model org/dasd-clip-cs --index photos.index
  CCR_ADAPTERS_KEY=... ccr-adapters serve --index photos.index --host 0.0.0.0
"""
_MEGA = 1_000_000


def _check_access(host: str, key: str | None, no_key: bool) -> None:
    """Refuse to let everybody in without being told to."""
    from ccr_adapters.errors import ConfigError
    from ccr_adapters.serving.run import is_public

    if key is not None and (not key.strip() or no_key):
        raise ConfigError("The key is empty, or there is one beside --no-key. Set CCR_ADAPTERS_KEY, or leave it out.")
    if key is None and not no_key and is_public(host):
        raise ConfigError(
            f"Everybody who reaches {host} could use this server. Set a key in CCR_ADAPTERS_KEY, or say --no-key."
        )


def _gallery(opened: Collection, engine: Engine, index: str) -> Gallery:
    """The collection behind the engine's model, if that made it."""
    from ccr_adapters.serving.gallery import Gallery

    base = engine.model.config.base_model_name_or_path
    sha256 = engine.model.base_sha256() if engine.pictures is None else engine.pictures.base_sha256
    opened.index.header.check_base(base, sha256, f"The index '{index}'")
    return Gallery(opened)


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Base or adapter, by default the index's; more add their languages, loaded when asked for."),
    ] = None,
    index: Annotated[
        str | None, typer.Option(help="What `index` has made: folder, .db file or http:// address.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    key: Annotated[
        str | None, typer.Option(envvar="CCR_ADAPTERS_KEY", help="Key that clients send; better in the environment.")
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Let everybody in, even on a public address.")] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Captions or pictures a forward pass.")] = 64,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="How long the first of a batch waits for others.")] = 3.0,
    max_queue: Annotated[int, typer.Option(min=1, help="Captions and pictures that may wait.")] = 4096,
    max_languages: Annotated[int, typer.Option(min=1, help="Languages in memory.")] = 16,
    max_captions: Annotated[int, typer.Option(min=1, help="Captions a request.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters a caption.")] = 2000,
    max_pictures: Annotated[int, typer.Option(min=1, help="Pictures a request.")] = 16,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Size of an uploaded picture.")] = 10.0,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Pixels of an uploaded picture.")] = 50.0,
    max_k: Annotated[int, typer.Option(min=1, max=16384, help="Results of a search.")] = 100,
    rate: Annotated[float, typer.Option(min=0, help="Requests a second of one client; 0: no limit.")] = 50.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for each part of a request: head, body, answer.")
    ] = 30.0,
    proxy: Annotated[
        str | None, typer.Option(help="Addresses of proxies in front, with commas, whose X-Forwarded-For is believed.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads of a forward pass; 0: as torch chooses.")] = 0,
    device: Annotated[str | None, typer.Option(help="Default: the accelerator if there is one.")] = None,
    notes: Annotated[Path | None, typer.Option(help="Folder of the notes, for a cluster.")] = None,
    collection: Annotated[str, typer.Option(help="Name of the Milvus collection.")] = "pictures",
    token: Annotated[
        str | None, typer.Option("--milvus-token", envvar="MILVUS_TOKEN", help="Token of a Milvus cluster.")
    ] = None,
) -> None:
    """Serve models, and a collection to search, over HTTP; /docs describes it."""
    from ccr_adapters.errors import ConfigError
    from ccr_adapters.search import Collection
    from ccr_adapters.serving.limits import Limits

    _check_access(host, key, no_key)
    upload = round(max_megabytes * _MEGA)
    limits = Limits(
        captions=max_captions,
        characters=max_characters,
        pictures=max_pictures,
        upload_bytes=upload,
        pixels=round(max_megapixels * _MEGA),
        body_bytes=max(32 * _MEGA, 2 * upload),
        k=max_k,
        rate=rate,
        seconds=timeout,
    )
    with ExitStack() as stack:
        opened: Collection | None = None
        if index is not None:
            opened = stack.enter_context(Collection.open(index, notes=notes, token=token, collection=collection))
        if opened is None and not model:
            raise ConfigError("No model is named: give one with --model, for example tiny_clip.")
        names = models_for(model, None if opened is None else opened.notes.model)
        # heavy, and so after what may be wrong in the command
        import torch
        from transformers.utils import logging

        from ccr_adapters.serving.app import create_app
        from ccr_adapters.serving.engine import Engine
        from ccr_adapters.serving.run import listen, run

        check_device(device)
        logging.disable_progress_bar()
        if threads:
            torch.set_num_threads(threads)
        listening = stack.enter_context(listen(host, port))
        engine = Engine.load(
            names,
            device,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
            max_queue=max(max_queue, max_batch),
            max_languages=max_languages,
        )
        stack.callback(engine.close)
        gallery = None if opened is None else _gallery(opened, engine, str(index))
        if gallery is not None:
            stack.callback(gallery.close)
        app = create_app(engine, gallery, limits=limits, key=key)
        shown = f"[{host}]" if ":" in host else host
        known = ", ".join([*engine.languages.known, "en"])
        where = "" if gallery is None else f", {len(gallery):,} pictures"
        told = (
            f"Serving {printable(', '.join(names))} ({known}{where}) at http://{shown}:{listening.getsockname()[1]}, "
            "described at /docs. Ctrl-C ends it."
        )
        run(app, listening, patience=timeout, behind=proxy, ready=lambda: typer.echo(told))
        typer.echo("Stopped.", err=True)


serve.__doc__ = f"{serve.__doc__}\n\n{EXAMPLE}"
