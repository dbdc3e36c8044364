"""Towers as ONNX files, checked against the model before anything is written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from ccr_adapters import __version__
from ccr_adapters.errors import ConfigError, ExportError
from ccr_adapters.export.captions import CaptionSettings
from ccr_adapters.export.image import ImageExport
from ccr_adapters.export.manifest import TOKENIZER, Manifest, TowerFile, sha256
from ccr_adapters.export.parity import Parity, compare_images, compare_text
from ccr_adapters.export.pictures import PictureSettings
from ccr_adapters.export.runtime import OnnxEncoder
from ccr_adapters.export.text import TextExport
from ccr_adapters.extras import require
from ccr_adapters.modeling import CCRModel
from ccr_adapters.modeling.adapter_folder import written_aside
from ccr_adapters.modeling.encoding import processor_of
from ccr_adapters.processing.captions import check_captions, end_token_id, pad_token_id

Towers = Literal["text", "image", "both"]

INPUTS: dict[str, dict[str, list[str | int]]] = {
    "text": {"input_ids": ["batch", "length"], "attention_mask": ["batch", "length"]},
    "image": {"pixel_values": ["batch", 3]},
}
OUTPUT = "embeddings"
# one file holds at most 2 GiB; what is larger keeps its weights beside it
_LARGEST_FILE = 1_900_000_000


def towers_of(tower: str) -> tuple[str, ...]:
    """The towers that a choice means.

    Raises:
        ConfigError: If it is unknown.
    """
    chosen = {"text": ("text",), "image": ("image",), "both": ("text", "image")}
    if tower not in chosen:
        raise ConfigError(f"`tower` is {tower!r}; expected text, image or both.")
    return chosen[tower]


def export_onnx(
    model: CCRModel,
    language: str | None,
    folder: str | Path,
    *,
    tower: Towers = "text",
    opset: int | None = None,
    int8: bool = False,
    captions: Sequence[str] | None = None,
    pictures: Sequence[Any] | None = None,
) -> dict[str, Parity]:
    """Write a folder that onnxruntime runs: graphs, tokenizer, `export.json`.

    Everything is written aside and checked against the model; a folder that is there already is replaced only then.

    Args:
        model: The model.
        language: The language; `None` is the base, `"active"` the model's active one.
        folder: Where to.
        tower: The text tower, the image tower, or both in one folder.
        opset: Version of ONNX's operators; by default what torch takes for the best supported one.
        int8: The text tower's weights as bytes, a quarter of the file; its vectors are then reported, not refused.
        captions: Captions to compare by; by default some that are made of the language's tokens.
        pictures: Pictures to compare by; by default some that are made up.

    Returns:
        The comparison of each tower.

    Raises:
        ExportError: If a tower cannot be exported, or gives other vectors than the model.
        MissingExtraError: If onnx, onnxscript or onnxruntime is not installed.
    """
    chosen, code, target = towers_of(tower), model.resolve_language(language), Path(folder)
    for library in ("onnx", "onnxscript", "onnxruntime"):
        require(library, extra="export")
    if int8 and "text" not in chosen:
        raise ConfigError("`int8` is for the text tower; export it too, or leave `int8` out.")
    if captions is not None:
        captions = check_captions(captions)
    earlier = _earlier(target)
    reports: dict[str, Parity] = {}
    with written_aside(target) as aside, model.shelf.using(model, [] if code is None else [code]):
        write: dict[str, Callable[..., TowerFile]] = {"text": partial(_write_text, int8=int8), "image": _write_image}
        files = {name: write[name](model, code, aside, opset) for name in chosen}
        manifest = Manifest(
            base=model.config.base_model_name_or_path,
            base_sha256=model.base_sha256(),
            language=code,
            space=model.space(code),
            towers=files,
            library=__version__,
        )
        manifest.write(aside)
        encoder = OnnxEncoder.from_folder(aside, threads=torch.get_num_threads())
        compare: dict[str, Callable[..., Parity]] = {
            "text": partial(compare_text, captions=captions),
            "image": partial(compare_images, pictures=pictures),
        }
        for name in chosen:
            reports[name] = compare[name](model, code, encoder)
            if files[name].precision == "float32":
                reports[name].check(name)
            files[name] = replace(files[name], parity=reports[name].to_dict())
        manifest.write(aside)
        written = {path.name for path in aside.iterdir()}
    for name in earlier - written:
        (target / name).unlink(missing_ok=True)
    return reports


def _earlier(folder: Path) -> set[str]:
    """Files of an export that lies there already."""
    try:
        towers = Manifest.read(folder).towers.values()
    except ExportError:
        return set()
    return {TOKENIZER} | {name for tower in towers for name in (tower.file, f"{tower.file}.data")}


def _write_text(model: CCRModel, code: str | None, folder: Path, opset: int | None, *, int8: bool) -> TowerFile:
    processor = processor_of(model)
    tokenizer = processor.tokenizer_for(code)
    tokenizer.save_pretrained(str(folder))
    if not (folder / TOKENIZER).is_file():
        raise ExportError(
            f"A {type(tokenizer).__name__} has no '{TOKENIZER}', which the export needs. Convert it to a fast tokenizer."
        )
    module = TextExport(model, code)
    path = folder / "text.onnx"
    version = write_onnx(module, path, list(INPUTS["text"]), opset)
    if int8:
        _quantise(path)
    return TowerFile(
        file=path.name,
        sha256=sha256(path),
        precision="int8" if int8 else "float32",
        opset=version,
        inputs=INPUTS["text"],
        outputs={OUTPUT: ["batch", model.dim_of(code)]},
        pooling=module.pooling,
        captions=CaptionSettings(
            max_length=module.max_length,
            end_id=end_token_id(tokenizer),
            pad_id=pad_token_id(tokenizer),
            lowercase=processor.lowercase and tokenizer is processor.tokenizer,
        ),
    )


def _write_image(model: CCRModel, code: str | None, folder: Path, opset: int | None) -> TowerFile:
    module = ImageExport(model, code)
    settings = PictureSettings.of(processor_of(model).image_processor)
    path = folder / "image.onnx"
    version = write_onnx(module, path, list(INPUTS["image"]), opset)
    return TowerFile(
        file=path.name,
        sha256=sha256(path),
        precision="float32",
        opset=version,
        inputs={name: [*axes, *module.size] for name, axes in INPUTS["image"].items()},
        outputs={OUTPUT: ["batch", model.dim_of(code)]},
        pictures=settings,
    )


def write_onnx(module: TextExport | ImageExport, path: Path, names: list[str], opset: int | None = None) -> int:
    """Write a tower and check the file.

    Args:
        module: The tower.
        path: The file.
        names: Names of its inputs.
        opset: Version of ONNX's operators.

    Returns:
        That version.

    Raises:
        ExportError: If torch gives another one than was asked for.
    """
    with _quiet():
        program: Any = torch.onnx.export(
            module,
            module.example(),
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes=module.dynamic_shapes(),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    version = int(program.model.opset_imports[""])
    if opset not in (None, version):
        raise ExportError(
            f"torch cannot write opset {opset}; it gave {version}. Name another one, or leave `opset` out."
        )
    size = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    program.save(str(path), external_data=size > _LARGEST_FILE)
    require("onnx", extra="export").checker.check_model(str(path), full_check=True)
    return version


def _quantise(path: Path) -> None:
    """Weights as bytes; what flows between the layers is scaled anew for every batch."""
    library = require("onnxruntime.quantization", extra="export")
    graph = require("onnx", extra="export").load(str(path))
    # the quantiser turns matrices round and then stumbles over the shapes that the exporter noted of them
    del graph.graph.value_info[:]
    with _quiet():
        library.quantize_dynamic(graph, path, weight_type=library.QuantType.QInt8, per_channel=True)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what the exporter tells of itself: missing torchvision, names of axes, its own deprecations."""
    told = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration", "root")]
    levels = [one.level for one in told]
    try:
        for one in told:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(told, levels, strict=True):
            one.setLevel(level)
