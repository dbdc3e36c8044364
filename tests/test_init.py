"""The front door: every exported name is there, and nothing heavy is imported before one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ccr_adapters


@pytest.mark.parametrize("name", ccr_adapters.__all__)
def test_every_export_is_there(name):
    assert getattr(ccr_adapters, name).__name__ == name
    assert name in dir(ccr_adapters)


def test_exports_and_all_agree():
    assert sorted(ccr_adapters._EXPORTS) == sorted(ccr_adapters.__all__)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(AttributeError, match="no attribute 'CCRModell'; it exports .*CCRModel"):
        _ = ccr_adapters.CCRModell


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, ccr_adapters, ccr_adapters.errors; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "peft", "datasets", "numpy", "PIL"}
    assert heavy & set(result.stdout.split()) == set()
