"""The log of a run: one CSV row per logged step."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from training.files import naming, write


class CsvLog:
    """Appends rows to a CSV file whose columns may grow; resuming drops rows past the checkpoint.

    Opened with `resume_step` = the step the run goes on from: rows of later steps were logged after
    the checkpoint was written and will be logged again.
    """

    def __init__(self, path: Path, resume_step: int | None = None):
        self.path = path
        self.rows: list[dict[str, str]] = []
        if resume_step is not None and path.exists():
            with open(path, newline="", encoding="utf-8") as file:
                self.rows = [r for r in csv.DictReader(file) if int(r["step"]) < resume_step]
        self.columns: list[str] = list(self.rows[0]) if self.rows else []
        self._rewrite()

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write(self.path, text.getvalue().encode())

    def write(self, row: dict[str, float | int]) -> None:
        text = {k: str(v) if isinstance(v, int) else f"{v:.6g}" for k, v in row.items()}
        self.rows.append(text)
        new = [k for k in text if k not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
            return
        with naming(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(text)
