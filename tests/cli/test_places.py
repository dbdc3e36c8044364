"""Where commands run and write: what cannot work is refused first, and what the machine refuses is a line."""

from __future__ import annotations

import errno
import os

import pytest

from ccr_adapters.cli.places import check_device, check_folder, refusal
from ccr_adapters.errors import ConfigError


@pytest.mark.parametrize("name", ["", "new", "new/below", "there"])
def test_a_folder_that_can_be_made_is_not_made_yet(name, tmp_path):
    (tmp_path / "there").mkdir()
    check_folder(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/it"])
def test_a_file_in_the_way_is_named(name, tmp_path):
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"`--space .*{name}`: '.*/file' is a file; expected a folder"):
        check_folder(tmp_path / name, "--space")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "precious"


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    # whoever runs the tests may be allowed everything
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match="nothing can be written into .* change its permissions"):
        check_folder(tmp_path / "new")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", "cpu:x"])
def test_a_device_that_is_not_here(device):
    with pytest.raises(ConfigError, match=f"`--device {device}` is not here; this machine has cpu"):
        check_device(device)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_device_that_is_here(device):
    check_device(device)


def test_only_what_the_machine_says_of_a_file_is_a_refusal(tmp_path):
    with pytest.raises(OSError, match="Is a directory") as caught:
        tmp_path.read_bytes()
    assert refusal(caught.value) == f"'{tmp_path}': Is a directory. " + refusal(caught.value).partition(". ")[2]
    assert "Make room" in refusal(OSError(errno.ENOSPC, "No space left on device", "out/a"))
    # in the middle of writing no name is at hand
    assert refusal(OSError(errno.ENOSPC, "No space left")).startswith("No space left. Make room")
    assert refusal(OSError(errno.EACCES, "Permission denied")) is None  # of which file?
    assert refusal(BrokenPipeError(errno.EPIPE, "Broken pipe", "x")) is None
    assert refusal(OSError("something else")) is None
