"""Files that may be the authors' checkpoints: nothing in them is run, and the methods are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from original_nrccr import fine_tuned, nrccr_checkpoint

from ccr_adapters.errors import AdapterError, ConfigError
from ccr_adapters.hub import convert_checkpoint


class Runs:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save({"model": Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(AdapterError, match="Only tensors and plain values are read"):
        convert_checkpoint(tmp_path / "evil.pt", "de", tmp_path / "out", method="nrccr")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("method", ["dasd", "nrccr"])
def test_files_that_are_no_checkpoints(method, tmp_path):
    (tmp_path / "text.pt").write_text("not found")
    (tmp_path / "empty.pt").touch()
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    torch.save({"a": torch.ones(200)}, tmp_path / "cut.pt")
    whole = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("text.pt", "empty.pt", "tensor.pt", "cut.pt", "none.pt", ""):
        with pytest.raises(AdapterError, match="checkpoint"):
            convert_checkpoint(tmp_path / name, "de", tmp_path / "out", method=method)


def test_the_methods_are_told_apart(dasd, mbert, clip_of, public, tokens, tmp_path):
    with pytest.raises(AdapterError, match="--from dasd"):
        convert_checkpoint(dasd()[0], "de", tmp_path / "out", method="nrccr", base=mbert)
    torch.save(nrccr_checkpoint("features", fine_tuned(mbert), clip_of(5)), tmp_path / "n.pt")
    with pytest.raises(AdapterError, match="--from nrccr"):
        convert_checkpoint(tmp_path / "n.pt", "de", tmp_path / "out", method="dasd", base=public, tokenizer=tokens)
    with pytest.raises(ConfigError, match="`tokenizer` is not for nrccr"):
        convert_checkpoint(tmp_path / "n.pt", "de", tmp_path / "out", method="nrccr", tokenizer=tokens)
