"""Paths of real trace rows that some tests read; without them, those tests are skipped."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / ".." / "shared" / "alibaba"
HOUR = SHARED / "hour_tasks.csv"
BATCH = SHARED / "batch_task_sample.csv"
USAGE = SHARED / "machine_usage_sample.csv"

needs_real_rows = pytest.mark.skipif(not SHARED.is_dir(), reason="real rows of the trace are not at ../shared/alibaba")
