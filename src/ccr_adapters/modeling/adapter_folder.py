"""Adapter folders, read and written strictly: safetensors only, every key accounted for, nothing half-written.

A language's folder holds `adapter_config.json` and `adapter_model.safetensors` as peft writes them, so that peft and
transformers can load the adapter too, and `vocabulary.safetensors` where the language has a token embedding of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ccr_adapters.errors import AdapterError
from ccr_adapters.processing.repository import CONFIG, MOVING, read_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
VOCABULARY_WEIGHTS = "vocabulary.safetensors"
HEAD_WEIGHTS = "head.safetensors"
PEFT_PREFIX = "base_model.model."
ASIDE = ".saving-"
"""How the name of a folder begins that is written into until all is there; a save that was killed leaves it."""


@contextmanager
def written_aside(folder: str | Path) -> Iterator[Path]:
    """Write into a temporary folder, and move the files over when all is written.

    What configurations are replaced go first, and the new ones come last, `config.json` at the very end: a folder that has
    it is whole, and one that was left halfway says that it is missing, rather than load as a mixture of two. What was not
    moved yet stays beside (`MOVING`), so that the save can be finished by hand.

    Raises:
        AdapterError: If the target is a file.
    """
    target = Path(folder).resolve()  # a link may lead to another file system
    if target.is_file():
        raise AdapterError(f"'{target}' is a file; expected a folder to save into.")
    target.parent.mkdir(parents=True, exist_ok=True)
    # files are renamed, which they can be inside one file system only: a target that is there may be a mount point
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=target if target.is_dir() else target.parent))
    try:
        yield aside
        target.mkdir(exist_ok=True)
        whole = aside.rename(target / aside.name.replace(ASIDE, MOVING))
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # nothing is left of it where all was written
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    files.sort(key=lambda name: (name.suffix == ".json", -len(name.parts), name.name == CONFIG))
    for name in reversed(files):
        if name.suffix == ".json":
            (target / name).unlink(missing_ok=True)
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(whole / name, target / name)
    for left in target.glob(f"{MOVING}*"):  # an earlier save that was killed may have left its own
        shutil.rmtree(left, ignore_errors=True)


def read_adapter_config(folder: Path) -> PeftConfig:
    """The peft configuration of a language, refusing unknown methods and keys."""
    path = folder / ADAPTER_CONFIG
    values = read_json(path)
    peft_type = values.get("peft_type")
    if not isinstance(peft_type, str) or peft_type not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise AdapterError(f"'{path}' is for the method {peft_type!r}, which peft does not know here.")
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)]
    known = {field.name for field in fields(config_class)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise AdapterError(
            f"Unknown key{'s' if len(unknown) > 1 else ''} in '{path}': {', '.join(unknown)}. Check the spelling, or update "
            "ccr-adapters and peft if the file is newer."
        )
    for key in patterns_in(values):
        raise AdapterError(
            f"'{path}': `{key}` is {str(values[key])[:80]!r}; expected plain names of modules, no regular expression."
        )
    values.pop("peft_type")
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise AdapterError(f"'{path}': {error}") from error


# a name, or a pattern that takes no longer than one
_PLAIN = re.compile(r"\^?(?:[\w.-]|\\\.)+\$?")


def patterns_in(values: Mapping[str, Any]) -> list[str]:
    """Keys of an adapter's configuration that choose modules by something else than plain names.

    A regular expression that a stranger wrote may take for ever; `write_adapter` writes lists of names.
    """
    found = []
    for key, value in values.items():
        if key.endswith(("_modules", "_pattern")):
            names = [value] if isinstance(value, str) else value or ()
            plain = isinstance(names, (list, tuple, set, dict))
            if not plain or not all(isinstance(name, str) and _PLAIN.fullmatch(name) for name in names):
                found.append(key)
    return found


@contextmanager
def opened_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, whose header is read and whose length is checked.

    Raises:
        AdapterError: If it is missing, truncated, or something else.
    """
    if not path.is_file():
        pickles = [name.name for name in path.parent.glob("*.bin")] + [name.name for name in path.parent.glob("*.pt")]
        hint = f" There is {pickles[0]}, but pickles are never opened." if pickles else ""
        raise AdapterError(f"'{path.name}' is missing in '{path.parent}'.{hint}")
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"'{path}' is truncated or no safetensors file ({error}). Download it again, or save the adapter again."
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        AdapterError: If the file is missing, truncated, or something else; if a value is not finite.
    """
    with opened_tensors(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    broken = [key for key, value in tensors.items() if value.is_floating_point() and not _finite(value)]
    if broken:
        raise AdapterError(f"'{path}' holds values that are not finite, in {broken[0]}. It must not be used.")
    return tensors


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite. One that is not makes the sum so, which takes a tenth of the time of asking each."""
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(torch.isfinite(tensor).all())


def write_tensors(path: Path, state: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    """Write tensors, floating-point ones in another precision if one is given.

    Raises:
        AdapterError: If a value is too large for that precision, or is not finite to begin with.
    """
    tensors = {
        key: value.detach()
        .to("cpu", dtype if dtype and value.is_floating_point() else value.dtype)
        .contiguous()
        .clone()
        for key, value in state.items()
    }
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise AdapterError(
                f"'{key}' holds a value that {str(value.dtype).removeprefix('torch.')} cannot hold, or that is not finite. Nothing "
                "was saved; save in float32, and look at how it was trained if that fails too."
            )
    save_file(tensors, str(path), metadata={"format": "pt"})


def fill_module(module: nn.Module, path: Path, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Put the tensors of a file into a module that was built on the meta device.

    Raises:
        AdapterError: If keys are missing or left over, or a shape is another one.
    """
    tensors, expected = read_tensors(path), module.state_dict()
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    wrong = [key for key in set(expected) & set(tensors) if expected[key].shape != tensors[key].shape]
    wrong += [
        key
        for key in expected
        if key in tensors and expected[key].is_floating_point() != tensors[key].is_floating_point()
    ]
    if missing or extra or wrong:
        raise AdapterError(
            f"'{path}' does not fit its configuration: {len(missing)} missing, {len(extra)} unexpected, {len(wrong)} of another "
            f"shape or type ({', '.join((missing + extra + sorted(wrong))[:3])})."
        )
    floats = {
        key: value.to(device, dtype if value.is_floating_point() else value.dtype) for key, value in tensors.items()
    }
    module.load_state_dict(floats, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def write_adapter(
    folder: Path,
    base: nn.Module,
    code: str,
    *,
    base_name: str | None,
    revision: str | None,
    dtype: torch.dtype | None,
) -> None:
    """Write the adapter of one language as peft would."""
    config: PeftConfig = base.peft_config[code]  # type: ignore[index, assignment]
    state = get_peft_model_state_dict(base, adapter_name=code, save_embedding_layers=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / ADAPTER_WEIGHTS, {f"{PEFT_PREFIX}{key}": value for key, value in state.items()}, dtype)
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    # by which AutoPeftModel finds the class of the base
    mapping = {"base_model_class": type(base).__name__, "parent_library": type(base).__module__}
    if {"target_modules", "exclude_modules"} & set(patterns_in(values)):
        # what the pattern has found, since one that a stranger wrote would not be run
        values.update(target_modules=_adapted(base, code), exclude_modules=None)
    values.update(base_model_name_or_path=base_name, revision=revision, inference_mode=True, auto_mapping=mapping)
    text = json.dumps(values, indent=2, sort_keys=True, default=str)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def _adapted(base: nn.Module, code: str) -> list[str]:
    """Names of the modules that have an adapter of a language."""
    return sorted(
        name
        for name, module in base.named_modules()
        if isinstance(module, BaseTunerLayer)
        and any(code in getattr(module, each) for each in module.adapter_layer_names)
    )


def fill_adapter(base: nn.Module, code: str, path: Path, dtype: torch.dtype) -> None:
    """Put the tensors of a file into an adapter that was injected on the meta device.

    So a crafted configuration cannot make the loader allocate more than the file holds.

    Raises:
        AdapterError: If keys are missing or left over, or a shape is another one.
    """
    tensors = {key.removeprefix(PEFT_PREFIX): value for key, value in read_tensors(path).items()}
    expected = get_peft_model_state_dict(base, adapter_name=code, save_embedding_layers=False)
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or extra:
        raise AdapterError(
            f"'{path}' does not fit its configuration: {len(missing)} missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(extra)} unexpected ({', '.join(extra[:3]) or 'none'})."
        )
    for key, value in expected.items():
        if value.shape != tensors[key].shape:
            raise AdapterError(
                f"'{path}': '{key}' has shape {tuple(tensors[key].shape)}, expected {tuple(value.shape)}."
            )
        if not tensors[key].is_floating_point():
            raise AdapterError(f"'{path}': '{key}' holds {tensors[key].dtype}; expected floating-point numbers.")
    device = next((p.device for p in base.parameters() if p.device.type != "meta"), torch.device("cpu"))
    tensors = {key: value.to(device, dtype) for key, value in tensors.items()}
    set_peft_model_state_dict(base, tensors, adapter_name=code, low_cpu_mem_usage=True)
