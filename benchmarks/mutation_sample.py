"""A filter for Cosmic Ray: keep a random sample of a session's pending mutants, in random order.

    cosmic-ray init benchmarks/mutation.toml session.sqlite
    cr-filter-operators session.sqlite benchmarks/mutation.toml
    python benchmarks/mutation_sample.py session.sqlite --count 300 --seed 0

In random order, so that a run cut short has tested a random sample as well.
"""

from __future__ import annotations

import argparse
import random

from cosmic_ray.tools.filters.filter_app import FilterApp
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import WorkItem


def _place(item: WorkItem) -> tuple[str, ...]:
    """What names a mutant in every session; its id is drawn anew."""
    return tuple(f"{m.module_path} {m.operator_name} {m.operator_args} {m.occurrence}" for m in item.mutations)


class SampleFilter(FilterApp):
    """Drops all but the sample, those that other filters skip first."""

    def description(self) -> str:
        """Said by --help."""
        return __doc__

    def add_args(self, parser: argparse.ArgumentParser) -> None:
        """What is asked for on the command line."""
        parser.add_argument("--count", type=int, default=300, help="mutants to keep")
        parser.add_argument("--seed", type=int, default=0)

    def filter(self, work_db: WorkDB, args: argparse.Namespace) -> None:
        """Replace the session's mutants by the sample."""
        pending = sorted(work_db.pending_work_items, key=_place)
        kept = random.Random(args.seed).sample(pending, min(args.count, len(pending)))
        work_db.clear()
        work_db.add_work_items(kept)
        print(f"{len(kept)} of {len(pending)} mutants")


def main() -> None:
    """Run as the filter that it is."""
    SampleFilter().main()


if __name__ == "__main__":
    main()
