"""Train an adapter as a recipe says.

    accelerate launch examples/train.py examples/configs/tiny_dasd_de.yaml
    accelerate launch examples/train.py examples/configs/tiny_dasd_de.yaml language=cs output_dir=runs/tiny_dasd_cs
    accelerate launch --config_file examples/launch/ddp.yaml examples/train.py RECIPE    # two processes; more: --num_processes

A run that was killed goes on from its last checkpoint when it is started again with the same recipe. `ccr-adapters train`
is the same command.
"""

from __future__ import annotations

import argparse
import logging
import sys

from ccr_adapters.cli.command_train import train_recipe
from ccr_adapters.errors import CCRError


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
        train_recipe(args.recipe, args.overrides)
    except CCRError as error:
        sys.exit(f"error: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
