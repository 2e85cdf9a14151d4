"""`make bench`: one table, printed as Markdown and written to results/bench.csv. Run it on an idle machine.

`--scale 100` instead projects a sparse store of 100 GB and prints time, rate and memory.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import astuple, fields
from pathlib import Path

from measuring import Row
from scale import scale
from stages import stages

import kernels as of_kernels
from polygate.files import atomic_path

OUTPUT = Path(__file__).resolve().parents[3] / "results" / "bench.csv"
HEADINGS = ("task", "size", "ours", "peer", "peer's", "ratio", "of the limit", "MB", "goal", "met")


def main() -> None:
    """Run everything, print the table, write it; or stream one store of `--scale` gigabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, metavar="GB", help="only project a sparse store of this size")
    args = parser.parse_args()
    if args.scale:
        scale(args.scale)
        return
    print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        kernels = (of_kernels.projection(place), of_kernels.checks(place), of_kernels.ranking())
        groups = (*kernels, of_kernels.bootstrap(), of_kernels.logistic())
        for group in (*groups, stages(place / "world")):
            for row in group:
                print(f"| {' | '.join(row.cells())} |", flush=True)
                rows.append(row)
    with atomic_path(OUTPUT) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(astuple(row) for row in rows)
    print(f"\nwritten to {OUTPUT.relative_to(OUTPUT.parents[1])}")


if __name__ == "__main__":
    main()
