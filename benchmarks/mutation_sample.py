"""A filter for Cosmic Ray: keep a random sample of a session's pending mutants, in random order.

    cosmic-ray init benchmarks/mutation.toml session.sqlite
    cr-filter-operators session.sqlite benchmarks/mutation.toml
    python benchmarks/mutation_sample.py session.sqlite --count 300 --seed 0

The order is random, so that an interrupted run has tested a random sample too.
"""

from __future__ import annotations

import argparse
import random

from cosmic_ray.tools.filters.filter_app import FilterApp
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import WorkItem


def _place(item: WorkItem) -> tuple[str, ...]:
    """Identify a mutant across sessions; its id differs in each."""
    return tuple(f"{m.module_path} {m.operator_name} {m.operator_args} {m.occurrence}" for m in item.mutations)


class SampleFilter(FilterApp):
    """Drops all pending mutants but a random sample, and the mutants that other filters have skipped."""

    def description(self) -> str:
        """Return the text of --help."""
        return __doc__

    def add_args(self, parser: argparse.ArgumentParser) -> None:
        """Add the command line arguments."""
        parser.add_argument("--count", type=int, default=300, help="mutants to keep")
        parser.add_argument("--seed", type=int, default=0)

    def filter(self, work_db: WorkDB, args: argparse.Namespace) -> None:
        """Replace the mutants of the session by the sample."""
        pending = sorted(work_db.pending_work_items, key=_place)
        kept = random.Random(args.seed).sample(pending, min(args.count, len(pending)))
        work_db.clear()
        work_db.add_work_items(kept)
        print(f"{len(kept)} of {len(pending)} mutants")


def main() -> None:
    """Run the filter."""
    SampleFilter().main()


if __name__ == "__main__":
    main()
