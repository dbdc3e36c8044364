"""The cards in `model_cards/` are what a rebuild writes: same words, same sizes, and the scores that they promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.cli.train import run_recipe

ROOT = Path(__file__).parents[1]
# recipe by the card that it rebuilds
CARDS = {"tiny_clip_de.md": "tiny_dasd_de.yaml"}
NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def parts(card):
    """Front matter, and the text below without what belongs to one machine."""
    _, front, text = card.split("---\n", 2)
    body = text.split("## Versions")[0]
    return yaml.safe_load(front), re.sub(r"\| time and machine \|.*", "", body)


def test_every_card_is_rebuilt():
    assert {path.name for path in (ROOT / "model_cards").glob("*.md")} - {"template.md"} == set(CARDS)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_what_a_rebuild_writes(card, tmp_path):
    recipe = load_recipe(ROOT / "examples/configs" / CARDS[card])
    recipe.output_dir = str(tmp_path / "run")
    written = run_recipe(recipe).adapter / "README.md"
    (front, text), (found, rebuilt) = (
        parts(path.read_text(encoding="utf-8")) for path in (ROOT / "model_cards" / card, written)
    )
    assert NUMBER.sub("#", text) == NUMBER.sub("#", rebuilt)
    # sizes and counts; training rounds otherwise on another machine, so the scores have some room
    sizes = [NUMBER.findall(body.split("## Results")[0]) for body in (text, rebuilt)]
    assert sizes[0] == sizes[1]
    scores, again = scores_of(front), scores_of(found)
    assert front == found
    assert scores.keys() == again.keys()
    for (config, name), value in scores.items():
        trained = not config.endswith(("before", "en"))
        room = (12.0 if name == "sum of recalls" else 3.0) if trained else 0.11
        assert again[config, name] == pytest.approx(value, abs=room), (config, name)


def scores_of(front):
    """Scores by test set and name, taken out of the front matter."""
    return {
        (result["dataset"]["config"], metric["name"]): metric["value"]
        for result in front.pop("model-index")[0]["results"]
        for metric in result["metrics"]
    }
