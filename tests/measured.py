"""What browser tests measured, for the report at the end of a run."""

from collections import defaultdict

MEASURED: dict[str, list[float]] = defaultdict(list)  # what -> seconds
