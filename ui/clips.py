"""The CLIPs that pictures can be drawn with: the bundle's own, and published ones by name."""

from __future__ import annotations

import os
import threading

from clip_guidance.model import Clip, UnknownClip, by_name
from clip_guidance.modes import Models
from ui.common import Sentence
from ui.studio import Studio
from ui.text import add

PUBLISHED_KEPT = 2  # CLIPs in memory beside the own one: two visitors may want different ones
# Offered by name. Any of open_clip's can be typed, except where everybody may type: on a Space one
# of the large ones would take the memory of all.
PUBLISHED = ("ViT-B-32", "ViT-B-16", "RN50")
OWN = "own"

add(
    {
        "draw.clip.failed": (
            "The CLIP “{name}” can't be used: it is downloaded at first use, and that failed "
            "({reason}). The shipped one works without a network.",
            "无法使用 CLIP“{name}”：它需要在首次使用时下载，但下载失败（{reason}）。"
            "自带的 CLIP 无需网络。",
        ),
        "draw.clip.unknown": (
            "open_clip knows no CLIP “{name}”: choose one of the list, or write its name as "
            "open_clip does, such as ViT-B-32.",
            "open_clip 没有名为“{name}”的 CLIP：请从列表中选择，或按 open_clip 的写法填写名称，"
            "例如 ViT-B-32。",
        ),
        "draw.clip.others": (
            "Among the published CLIPs this public page draws with {names} only.",
            "在公开发布的 CLIP 中，此公共页面仅支持 {names}。",
        ),
        "draw.clip.none": (
            "This model bundle ({name}) holds no CLIP: choose a published one in the settings.",
            "该模型包（{name}）不含 CLIP：请在设置中选择一个公开发布的 CLIP。",
        ),
    }
)


class Clips:
    """The bundle's own CLIP, and the published ones that were asked for last."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._building, self._loading = threading.Lock(), threading.Lock()
        self._published: dict[str, Clip] = {}

    @property
    def shipped(self) -> bool:
        return "clip" in self._studio.bundle.card

    @property
    def own(self) -> Clip | None:
        """Built when it is first wanted, which takes seconds."""
        with self._building:
            return self._studio.bundle.clip if self.shipped else None

    def ready(self, name: str) -> bool:
        """Whether it can be had at once: no published one has to be downloaded or read."""
        return name == OWN or name in self._published

    def warm(self) -> None:
        """Begin to build the own one, in the background."""
        threading.Thread(target=lambda: self.own, daemon=True).start()

    def get(self, name: str) -> Clip:
        """The own one, or a published one by name."""
        if name == OWN:
            if not self.shipped:
                raise Sentence("draw.clip.none", name=self._studio.bundle.name)
            return self.own
        known = self._published.get(name)  # without waiting for another one's download
        return self._load(name) if known is None else known

    def _load(self, name: str) -> Clip:
        if "SPACE_ID" in os.environ and name not in PUBLISHED:
            raise Sentence("draw.clip.others", names=(", ".join(PUBLISHED), "、".join(PUBLISHED)))
        with self._loading:
            if name not in self._published:
                try:
                    found = by_name(name, self._studio.device)
                except UnknownClip as error:
                    raise Sentence("draw.clip.unknown", name=name) from error
                except ValueError as error:
                    reason = str(error).removesuffix(".")
                    raise Sentence("draw.clip.failed", name=name, reason=reason) from error
                kept = list(self._published.items())[1 - PUBLISHED_KEPT :]
                self._published = dict([*kept, (name, found)])
            return self._published[name]

    def models(self, name: str) -> Models:
        """All that drawing needs."""
        bundle = self._studio.bundle
        return Models(bundle.vqgan, self.get(name), bundle.prior, self.own)
