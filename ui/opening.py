"""What the Sample tab opens with: pictures that were written beforehand, and are not picked."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from prior.sheet import FILE, Record, check_grids, weights_id
from ui import classes, ideas
from ui.studio import Studio
from ui.writing import Batch, paint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """The pictures that the tab opens with: shipped codes, decoded when they are first wanted."""

    studio: Studio
    ideas: ideas.Source
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def batch(self) -> Batch | None:
        """None where the bundle ships none of its own prior."""
        with self._lock:
            return self._batch

    @cached_property
    def _batch(self) -> Batch | None:
        studio = self.studio
        path = Path(studio.bundle.path) / FILE
        if not path.is_file():
            return None
        try:
            kept = Record.read(path)
            check_grids(kept.codes, studio.codebook_size)
        except ValueError as error:
            log.warning("the samples to start with are left out: %s", error)
            return None
        if kept.settings.get("prior") != weights_id(studio.bundle.card) or kept.bits is None:
            log.warning("%s is of another prior: write it again with python -m prior.sample", path)
            return None
        given = self.ideas.again(kept.settings) if "ideas" in kept.settings else None
        if "classes" in kept.settings:
            given = classes.again(studio, kept.settings)
        strange = "classes" in kept.settings or kept.settings.get("cfg_scale", 1) != 1
        if given is None and strange:
            log.warning("%s was told what the app does not know: write it again", path)
            return None
        n, h, w = kept.codes.shape
        return Batch(
            grids=kept.codes,
            pictures=paint(studio, torch.from_numpy(kept.codes)),
            nats=-np.array(kept.bits) * math.log(2) * h * w,
            counted=np.full(n, h * w),
            seeds=tuple(range(kept.settings["seed"], kept.settings["seed"] + n)),
            settings=kept.settings,
            origin="example",
            given=given,
        )
