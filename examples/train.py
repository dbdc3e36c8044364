"""Train an adapter as a recipe says.

    accelerate launch examples/train.py examples/configs/tiny_dasd_de.yaml
    accelerate launch examples/train.py examples/configs/tiny_dasd_de.yaml language=cs output_dir=runs/tiny_dasd_cs
    accelerate launch --cpu --num_processes 2 examples/train.py examples/configs/tiny_dasd_de.yaml

A run that was killed goes on from its last checkpoint when it is started again with the same recipe.
"""

from __future__ import annotations

import argparse
import logging
import sys

from accelerate import PartialState

from ccr_adapters.cli.recipe import load_recipe
from ccr_adapters.cli.train import run_recipe
from ccr_adapters.errors import CCRError
from ccr_adapters.evaluation import console_table


def main(argv: list[str] | None = None) -> int:
    """Read the recipe, train, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="YAML file, see examples/configs")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="over what the file says: seed=1 data.noise=0.2"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        outcome = run_recipe(load_recipe(args.recipe, args.overrides))
    except CCRError as error:
        sys.exit(f"error: {error}")
    if PartialState().is_main_process:
        rows = [{**scores.to_dict(), "captions": name} for name, scores in outcome.metrics.items()]
        columns = ["captions", "t2i_r@1", "t2i_r@5", "t2i_r@10", "i2t_r@1", "i2t_r@5", "i2t_r@10", "sumR", "sumR_ci95"]
        print(console_table(rows, columns))
        print(f"\nThe adapter is in {outcome.adapter}. Load it with CCRModel.from_pretrained('{outcome.adapter}').")
    return 0


if __name__ == "__main__":
    sys.exit(main())
