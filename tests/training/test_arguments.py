"""Arguments that transformers does not check: releases of DeepSpeed that train something else."""

from __future__ import annotations

import importlib.metadata

import pytest

from ccr_adapters.training.arguments import _refuse_lost_gradients


@pytest.fixture
def deepspeed(monkeypatch):
    """Pretend that a release is installed; it need not be."""
    return lambda release: monkeypatch.setattr(importlib.metadata, "version", {"deepspeed": release}.__getitem__)


@pytest.mark.parametrize("release", ["0.17.6", "0.18.3", "0.19.8"])
def test_releases_that_lose_accumulated_gradients_are_refused(deepspeed, release):
    deepspeed(release)
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` is 4, .*Install 'deepspeed<0.17.6'"):
        _refuse_lost_gradients(stage=2, accumulated=4)


@pytest.mark.parametrize(
    ("release", "stage", "accumulated"), [("0.17.5", 2, 4), ("0.17.6", 2, 1), ("0.17.6", 1, 4), ("0.17.6", 3, 4)]
)
def test_what_loses_none_is_let_through(deepspeed, release, stage, accumulated):
    deepspeed(release)
    _refuse_lost_gradients(stage, accumulated)
