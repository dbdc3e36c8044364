"""The configuration: published sizes where nothing is said, and a sentence for a value that cannot work."""

from __future__ import annotations

import pytest

from ccr_adapters.dasd import DASDConfig


def test_the_defaults_are_the_published_sizes():
    config = DASDConfig()
    assert (config.mode, config.r, config.condition_dim, config.prefix_blocks) == ("dynamic", 32, 512, 2)
    assert DASDConfig(mode="static").r == 256
    assert DASDConfig(mode="static", r=8).r == 8


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mode": "both"}, "'both'; expected one of dynamic, static"),
        ({"mode": True}, "`mode` is True"),
        ({"mode": ["dynamic"]}, "`mode` is"),
        ({"sr_pooling": "max"}, "`sr_pooling` is 'max'"),
        ({"r": 0}, "`r` is 0; expected a positive integer"),
        ({"r": -4}, "`r` is -4"),
        ({"r": 2.5}, "`r` is 2.5"),
        ({"r": True}, "`r` is True"),
        ({"r": "32"}, "`r` is '32'"),
        ({"condition_dim": 0}, "`condition_dim` is 0"),
        ({"embedding_dim": 0}, "`embedding_dim` is 0"),
        ({"prefix_blocks": 0}, "`prefix_blocks` is 0"),
        ({"adapt_from": -1}, "`adapt_from` is -1"),
        ({"adapt_from": True}, "`adapt_from` is True"),
        ({"generator_rank": 0}, "`generator_rank` is 0"),
        ({"sa_all_positions": 1}, "`sa_all_positions` is 1"),
    ],
)
def test_a_value_that_cannot_work_is_named(values, named):
    with pytest.raises(ValueError, match=named.replace("(", r"\(")):
        DASDConfig(**values)


def test_an_unknown_key_is_refused():
    with pytest.raises(TypeError, match="rank"):
        DASDConfig(rank=4)


def test_the_configuration_survives_a_round_trip(tmp_path):
    config = DASDConfig(
        mode="dynamic",
        r=6,
        condition_dim=10,
        embedding_dim=12,
        prefix_blocks=1,
        generator_rank=3,
        sr_pooling="mean",
        pooling_token_id=9,
        target_modules=["encoder.layers.1", "encoder.layers.0"],
        exclude_modules=["encoder.layers.2"],
        modules_to_save=["final_layer_norm"],
    )
    config.save_pretrained(tmp_path)
    assert DASDConfig.from_pretrained(tmp_path) == config
