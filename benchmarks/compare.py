"""What became slower, faster, larger or smaller between two runs of `suite.py`.

    python benchmarks/compare.py old.json new.json
    python benchmarks/compare.py old.json new.json --threshold 0.05 --absolute

Ratios are compared, so the two runs may come from different machines of one kind; `--absolute` compares seconds and
megabytes. The exit code is 1 where something got worse by more than the threshold, 2 where the runs cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ccr_adapters.evaluation import console_table

Key = tuple[str, str, str]


def figures(path: Path) -> dict[Key, dict[str, Any]]:
    """The figures of a run by section, size and row.

    Raises:
        ValueError: If the file is none of the suite's.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {(each["section"], each["size"], each["row"]): each for each in found["figures"]}
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}).") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is no output of suite.py --json.") from error


def changes(
    old: dict[Key, dict[str, Any]], new: dict[Key, dict[str, Any]], threshold: float, field: str
) -> tuple[list[dict[str, Any]], bool]:
    """Rows that changed by more than a share, worst first, and whether one of them is worse.

    Args:
        old: Figures before.
        new: Figures after.
        threshold: Share from which on a change counts.
        field: `ratio` or `value`; less is better in both.
    """
    rows = []
    for key in old.keys() & new.keys():
        before, after = old[key][field], new[key][field]
        change = after / before - 1
        if abs(change) > threshold:
            names = dict(zip(("section", "size", "row"), key, strict=True))
            rows.append({**names, "before": before, "after": after, "change": change})
    rows.sort(key=lambda row: -row["change"])
    return rows, any(row["change"] > 0 for row in rows)


def main(argv: list[str] | None = None) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=0.1, help="share from which on a change counts")
    parser.add_argument("--absolute", action="store_true", help="compare seconds and megabytes instead of ratios")
    args = parser.parse_args(argv)
    try:
        old, new = figures(args.old), figures(args.new)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not old.keys() & new.keys():
        print("error: The two runs have no section, size and row in common.", file=sys.stderr)
        return 2
    rows, worse = changes(old, new, args.threshold, "value" if args.absolute else "ratio")
    shown = [
        {**row, "before": f"{row['before']:.3g}", "after": f"{row['after']:.3g}", "change": f"{row['change']:+.0%}"}
        for row in rows
    ]
    print(console_table(shown) if shown else f"Nothing changed by more than {args.threshold:.0%}.")
    for name, missing in (
        ("only in the old run", old.keys() - new.keys()),
        ("only in the new run", new.keys() - old.keys()),
    ):
        if missing:
            print(f"{name}: {len(missing)}, for example {', '.join(min(missing))}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
