"""The card of an adapter repository, filled from its files and from what was measured; nothing is typed by hand."""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from safetensors import safe_open

from ccr_adapters.configuration import CCRConfig, LanguageConfig
from ccr_adapters.modeling.adapter_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    HEAD_WEIGHTS,
    VOCABULARY_WEIGHTS,
)
from ccr_adapters.modeling.citations import citations
from ccr_adapters.processing.repository import read_json

UNKNOWN = "not recorded"

EXAMPLES = {
    "de": '"Ein Hund rennt durch den Schnee"',
    "fr": '"Un chien court dans la neige"',
    "cs": '"Pes běží sněhem"',
    "zh": '"一只狗在雪地里奔跑"',
    "sw": '"Mbwa anakimbia kwenye theluji"',
}


_ADAPTERS = {
    ("DASD", "dynamic"): "dynamic adapter with disentangled semantics (DASD)",
    ("DASD", "static"): "static acquirer (MLA)",
    ("FULL", None): "fine-tuned copies of the encoder's blocks (FULL)",
}


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB" if path.is_file() else "none: the base's own tokens"


def count_parameters(path: Path) -> int:
    """Number of floating-point values in a safetensors file, read from its header alone."""
    if not path.is_file():
        return 0
    total = 0
    with safe_open(str(path), framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - no mapping
            part = file.get_slice(key)
            if str(part.get_dtype()).startswith(("F", "BF")):
                product = 1
                for length in part.get_shape():
                    product *= length
                total += product
    return total


def results_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of measured rows; the columns are the keys of the first."""
    if not rows:
        return "No evaluation was recorded with this adapter."
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [f"{row[name]:.1f}" if isinstance(row.get(name), float) else str(row.get(name, "")) for name in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


_IN_THE_BASES_SPACE = """\
The adapter's vectors live in the space of [`{base}`](#architecture-and-size): image vectors that were indexed with
the base stay valid, and the English path and the image path are the base's own, bit for bit."""
_IN_ITS_OWN_SPACE = """\
Captions of {codes} live in a space of their own, into which pictures are mapped too: encode them with the language, as
below. Image vectors that were indexed with [`{base}`](#architecture-and-size) have to be mapped (`model.map_visual`). The
English path and the image path of the base itself stay as they are, bit for bit."""
_FROM_PEFT = """\
It needs the package `ccr-adapters`. With peft alone, `import ccr_adapters.dasd` makes the method known to
`PeftModel.from_pretrained`."""
_NOT_FROM_PEFT = (
    "It needs the package `ccr-adapters`. peft alone loads the adapter without an error but not its {lost}, and the vectors "
    "are then wrong."
)
_NO_HUMAN_CAPTIONS = "\nNo caption in the target language that a person wrote for a picture was used in training.\n"
_INHERITS = """\
The adapter inherits the {what} register, dialect and biases, and whatever the base has learned about pictures."""
_DYNAMIC = """\
- Dynamic weights depend on the caption. They cannot be folded into the base, so an export has to keep the generator.
"""
_REPORTED = {
    **{
        f"{way}_r@{k}": f"{name} R@{k}"
        for way, name in (("t2i", "text to image"), ("i2t", "image to text"))
        for k in (1, 5, 10)
    },
    "sumR": "sum of recalls",
}


def _model_index(title: str, evidence: dict[str, Any]) -> list[dict[str, Any]]:
    results = []
    for row, values in (evidence.get("metrics") or {}).items():
        metrics = [
            {"type": "recall", "name": name, "value": round(float(values[key]), 2)}
            for key, name in _REPORTED.items()
            if key in values
        ]
        # the Hub refuses an index whose models have no results
        if metrics:
            data = str(values.get("dataset", "unknown"))
            results.append(
                {
                    "task": {"type": "image-text-retrieval", "name": "Cross-lingual image-text retrieval"},
                    "dataset": {"type": data, "name": data, "config": row, "split": "test"},
                    "metrics": metrics,
                }
            )
    return [{"name": title, "results": results}] if results else []


def _space(config: CCRConfig, codes: list[str], base: str) -> str:
    own = [code for code in codes if config.languages[code].head is not None]
    return _IN_ITS_OWN_SPACE.format(base=base, codes=", ".join(own)) if own else _IN_THE_BASES_SPACE.format(base=base)


def _loading(language: LanguageConfig) -> str:
    """What else can load it."""
    lost = "vocabulary" if language.vocabulary is not None else "head" if language.head is not None else None
    return _FROM_PEFT if lost is None else _NOT_FROM_PEFT.format(lost=lost)


def _method(adapter: dict[str, Any], recipe: str) -> str:
    """The adapter in words, and the method that trained it where that is another."""
    peft_type = str(adapter.get("peft_type", "")).upper()
    found = _ADAPTERS.get((peft_type, adapter.get("mode")), peft_type)
    found += f", r = {adapter.get('r')}" if adapter.get("r") else ""
    return found if recipe in ("dasd", "mla", "lora", "full") else f"{found}, trained as {recipe.upper()}"


def _front(codes: list[str], base: str, title: str, recipe: str, evidence: dict[str, Any]) -> dict[str, str]:
    """What the Hub reads, each value as JSON, which is YAML that nothing breaks."""
    tags = [
        "ccr-adapters",
        recipe,
        "cross-lingual",
        "cross-modal-retrieval",
        "multilingual",
        f"base_model:adapter:{base}",
    ]
    values = {
        "language": codes,
        "license": evidence.get("license", "unknown"),
        "base_model": base,
        "datasets": evidence.get("datasets", []),
        "tags": tags,
        "model_index": _model_index(title, evidence),
    }
    return {f"{name}_yaml": json.dumps(value) for name, value in values.items()}


def _data(training: dict[str, Any]) -> dict[str, Any]:
    """What it was trained on. Who wrote the translations is claimed only where the recipe named a translator."""
    translated = "translator" in training
    return {
        "training_data": training.get("data", UNKNOWN),
        "pairs": f"{training['pairs']:,}" if isinstance(training.get("pairs"), int) else UNKNOWN,
        "translation_system": training.get("translator", UNKNOWN),
        "translation_noise": training.get("noise", UNKNOWN),
        "data_license": training.get("license", UNKNOWN),
        "no_human_captions": _NO_HUMAN_CAPTIONS if translated else "",
        "inherits": _INHERITS.format(what="translator's" if translated else "training captions'"),
    }


def _dynamic(adapter: dict[str, Any]) -> bool:
    """Whether weights are generated from each caption."""
    return str(adapter.get("peft_type", "")).upper() == "DASD" and adapter.get("mode", "dynamic") == "dynamic"


def _citation(adapter: dict[str, Any], recipe: str) -> str:
    """The papers of the adapter and of the method that trained it."""
    kind = str(adapter.get("peft_type", "")).lower()
    own = "mla" if kind == "dasd" and not _dynamic(adapter) else kind
    found = citations(own, recipe)
    return "\n## Citation\n\n```bibtex\n" + "\n\n".join(found) + "\n```\n\n" if found else "\n"


def render_card(config: CCRConfig, codes: list[str], folder: Path, evidence: dict[str, Any]) -> str:
    """Fill the template.

    Args:
        config: The repository's configuration.
        codes: Its languages.
        folder: Where its files lie, for sizes.
        evidence: `repository`, `training` (pairs, data and its license, translator, noise, seed, recipe, seconds, machine,
            checkpoint), `metrics` (by name, each a flat dictionary with `dataset`), `table` (rows), `protocol`, `limits`,
            `license` (of the adapter; `unknown` unless it is named).
    """
    code = codes[0]
    own = folder / config.languages[code].folder
    adapter = read_json(own / ADAPTER_CONFIG)
    training = evidence.get("training") or config.languages[code].recipe or {}
    recipe = str(training.get("method") or adapter.get("peft_type", "")).lower()
    base = config.base_model_name_or_path or "a base without a name"
    vocabulary = config.languages[code].vocabulary
    title = evidence.get("title") or f"{', '.join(codes)} for {Path(base).name}"
    parameters = sum(count_parameters(own / name) for name in (ADAPTER_WEIGHTS, VOCABULARY_WEIGHTS, HEAD_WEIGHTS))
    summary = f"Teaches `{base}` the language{'s' if len(codes) > 1 else ''} {', '.join(codes)}"
    summary += ", from machine-translated captions." if "translator" in training else "."
    values = {
        **_front(codes, base, title, recipe, evidence),
        **_data(training),
        "title": title,
        "summary": evidence.get("summary") or summary,
        "base_model": base,
        "space": _space(config, codes, base),
        "base_revision": config.base_revision or "not pinned",
        "base_hash": (config.base_sha256 or UNKNOWN)[:16],
        "repository": evidence.get("repository", "path/to/this/folder"),
        "example_captions": EXAMPLES.get(code, '"..."'),
        "language": code,
        "loading": _loading(config.languages[code]),
        "in_language": "" if config.languages[code].head is None else f', language="{code}"',
        "method": _method(adapter, recipe),
        "vocabulary": "the base's"
        if vocabulary is None
        else f"{vocabulary.size:,} tokens of its own, {vocabulary.width} wide",
        "trained_parameters": f"{parameters:,}",
        "adapter_size": _size(own / ADAPTER_WEIGHTS),
        "vocabulary_size": _size(own / VOCABULARY_WEIGHTS),
        "recipe": training.get("recipe", UNKNOWN),
        "seed": training.get("seed", UNKNOWN),
        "training_time": training.get("time", UNKNOWN),
        "checkpoint": training.get("checkpoint", UNKNOWN),
        "results_table": results_table(evidence.get("table", [])),
        "protocol": evidence.get("protocol", ""),
        "limits": f"{evidence['limits']}\n" if evidence.get("limits") else "",
        "dynamic": _DYNAMIC if _dynamic(adapter) else "",
        "citation": _citation(adapter, recipe),
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "safetensors")),
    }
    template = Template(files("ccr_adapters.modeling").joinpath("card_template.md").read_text(encoding="utf-8"))
    return template.substitute(values)


def write_card(path: Path, config: CCRConfig, codes: list[str], folder: Path, evidence: dict[str, Any]) -> None:
    """Write `README.md` of an adapter repository."""
    path.write_text(render_card(config, codes, folder, evidence), encoding="utf-8")
