"""What tells the sets that a command scores on from others."""

from __future__ import annotations

from ccr_adapters.cli.question_sets import Asked


def test_another_column_is_another_source():
    """Otherwise the results on captions by people would be replaced by those on a machine's."""
    people, machine = (Asked(data="photos", columns={"caption": column}).source for column in ("human_de", "mt_de"))
    assert people != machine
    assert people == Asked(data="photos", columns={"caption": "human_de"}).source
