"""`ccr-adapters train`: train an adapter as a recipe says. What `examples/train.py` does too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ccr_adapters.cli.train import Outcome

EXAMPLE = """\b
Example:
  ccr-adapters train examples/configs/tiny_dasd_de.yaml language=cs output_dir=runs/tiny_dasd_cs
  accelerate launch -m ccr_adapters train examples/configs/tiny_dasd_de.yaml
"""
COLUMNS = ["captions", "t2i_r@1", "t2i_r@5", "t2i_r@10", "i2t_r@1", "i2t_r@5", "i2t_r@10", "sumR", "sumR_ci95"]


def tell_outcome(outcome: Outcome) -> None:
    """Print what a training measured, and where its adapter is; once, in however many processes."""
    from accelerate import PartialState

    from ccr_adapters.evaluation import console_table

    if PartialState().is_main_process:
        rows = [{**scores.to_dict(), "captions": name} for name, scores in outcome.metrics.items()]
        typer.echo(console_table(rows, COLUMNS))
        typer.echo(
            f"\nThe adapter is in {outcome.adapter}. Load it with CCRModel.from_pretrained('{outcome.adapter}')."
        )


def train_recipe(recipe: str | Path, overrides: list[str]) -> None:
    """Train as a recipe says, and print what was measured.

    Args:
        recipe: YAML file, see `examples/configs`.
        overrides: `key=value`, over what the file says.

    Raises:
        CCRError: If the recipe or its data cannot work, or the training fails.
    """
    from ccr_adapters.cli.recipe import load_recipe

    plan = load_recipe(recipe, overrides)  # first: what follows takes seconds to import
    from ccr_adapters.cli.train import run_recipe

    tell_outcome(run_recipe(plan))


def train(
    config: Annotated[Path, typer.Argument(help="Recipe, a YAML file; see examples/configs.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Over what the file says: seed=1 data.noise=0.2"),
    ] = None,
) -> None:
    """Train an adapter as a recipe says; a run that was killed goes on from its last checkpoint."""
    train_recipe(config, overrides or [])


train.__doc__ = f"{train.__doc__}\n\n{EXAMPLE}"
