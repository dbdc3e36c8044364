"""What the data room exports, and at what cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ccr_adapters.data


def test_exports():
    assert set(ccr_adapters.data.__all__) <= set(dir(ccr_adapters.data))
    for name in ccr_adapters.data.__all__:
        assert getattr(ccr_adapters.data, name) is not None
    assert ccr_adapters.data.LANGUAGES == ("de", "fr", "cs", "zh", "sw")
    with pytest.raises(AttributeError, match="no_such_thing.*tiny_clip_path"):
        _ = ccr_adapters.data.no_such_thing


def test_importing_it_does_not_import_datasets():
    code = "import sys, ccr_adapters.data; print('datasets' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
