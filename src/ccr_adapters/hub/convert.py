"""Convert: a checkpoint that the authors of a method released becomes an adapter folder that encodes the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.hub.checkpoint import collapsed, read_checkpoint
from ccr_adapters.hub.conversion import CARRIED, Converted, Draft, write_base
from ccr_adapters.hub.convert_dasd import draft_dasd
from ccr_adapters.hub.convert_nrccr import draft_nrccr
from ccr_adapters.modeling.adapter_folder import written_aside

METHODS = ("dasd", "nrccr")
NOT_MEASURED = "not measured here"


def convert_checkpoint(
    path: str | Path,
    language: str,
    output: str | Path,
    *,
    method: str,
    base: str | Path | None = None,
    tokenizer: str | Path | None = None,
    images: str | Path | None = None,
) -> Converted:
    """Make an adapter folder of a checkpoint that DASD's or NRCCR's authors released.

    A caption's vector is theirs to 1e-4. What no vector depends on is left out and listed. The base is named where the
    checkpoint's frozen weights are the public ones; where it was trained too, it is written into the folder. NRCCR's
    always is: mBERT with its case-folding tokenizer, and CLIP's image tower where pictures go through it.

    Args:
        path: The checkpoint; only tensors and plain values are read.
        language: Code of the language, for DASD by its name in the checkpoint.
        output: Folder to write; must not hold anything yet.
        method: `"dasd"` or `"nrccr"`.
        base: What it was trained on: CLIP for DASD, mBERT for NRCCR; by default the public one.
        tokenizer: For DASD: mBERT's tokenizer; by default the public one.
        images: For NRCCR over pictures: CLIP; by default the public one.

    Returns:
        What was written and what was left out.

    Raises:
        AdapterError: If the file is broken or another method's, or does not fit its base.
        ConfigError: If an argument cannot work.

    Example:
        >>> convert_checkpoint("pytorch_model.bin.5000", "de", "runs/de", method="dasd")  # doctest: +SKIP
    """
    if method not in METHODS:
        raise ConfigError(f"`method` is {method!r}; expected one of {', '.join(METHODS)}.")
    foreign = "images" if method == "dasd" and images else "tokenizer" if method == "nrccr" and tokenizer else None
    if foreign:
        raise ConfigError(f"`{foreign}` is not for {method}: its {foreign} come with the base.")
    folder = Path(output)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise AdapterError(f"'{folder}' holds files already. Name another folder with --output.")
    values = read_checkpoint(path)
    if method == "dasd":
        draft = draft_dasd(values, language, base=base, tokenizer=tokenizer)
    else:
        draft = draft_nrccr(values, language, base=base, images=images)
    model = draft.model
    model.check_new_language(language)
    with written_aside(folder) as aside:
        if draft.carried:
            # now, while no adapter is in it
            write_base(model, aside / CARRIED)
            model.config.base_model_name_or_path = CARRIED
        draft.add()
        model.config.languages[language].recipe = _recipe(method, draft, Path(path))
        model.save_pretrained(aside, evidence=_evidence(method, language, draft))
    return Converted(
        folder=folder,
        method=method,
        language=language,
        base=str(model.config.base_model_name_or_path),
        compared_with=draft.base_name,
        difference=draft.difference,
        dropped=collapsed(draft.dropped),
    )


def _recipe(method: str, draft: Draft, path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {
        "method": method,
        "recipe": f"the authors' own ({draft.source})",
        "checkpoint": f"`{path.name}`, sha256 {digest.hexdigest()}",
        "time": NOT_MEASURED,
    }


def _evidence(method: str, language: str, draft: Draft) -> dict[str, Any]:
    limits = "- Converted, not trained here. See the authors' repository for data, licence and figures."
    if method == "nrccr":
        limits += (
            "\n- Captions and pictures meet in a space of their own: image vectors of the base must be encoded for the "
            "language, and at their own length. A caption's vector depends on how its batch was padded, as in the authors' "
            "code; `read_padding: false` in config.json ends that, and gives other vectors than theirs."
        )
    else:
        limits += (
            "\n- Captions are padded to the longest there may be, and the padding is read, as in the authors' code."
        )
    return {
        "title": f"{method.upper()} for {language}, converted from the authors' checkpoint",
        "summary": f"The weights that the authors of {method.upper()} released ({draft.source}), in this package's form.",
        "license": draft.license,
        "protocol": f"Recalls: {NOT_MEASURED}.",
        "limits": limits,
    }
