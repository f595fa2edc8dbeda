"""What libraries refuse, said in Chinese too: the real sentences, so that neither side drifts."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from clip_guidance import record
from clip_guidance.guide import GuidanceConfig, Latents
from clip_guidance.modes import Request
from prior.sheet import Record
from ui.common import friendly
from ui.refusals import in_both
from ui.session import open_picture
from vqgan.grids import IndexFile, check_code
from vqgan.images import open_image
from vqgan.model import VQGAN, VQGANConfig

SHAPE = {"resolution": 8, "ch": 2, "ch_mult": (1,), "num_groups": 1, "attn_resolutions": ()}
GUMBEL = VQGAN(VQGANConfig(**SHAPE, z_channels=4, embed_dim=4, quantizer="gumbel"))


def picture(path, content: bytes):
    path.write_bytes(content)
    return open_image(path)


def claiming(side: int) -> bytes:
    """The beginning of a PNG of so many pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + check + bytes(4) + b"IDAT"


def cut_off(path):
    Image.linear_gradient("L").save(path)
    return picture(path, path.read_bytes()[:300])


def codes(path, array: np.ndarray):
    np.save(path.with_suffix(".npy"), array)
    return IndexFile.read(path.with_suffix(".npy"), 64, 8)


def unnamed(path):
    np.savez(path.with_suffix(".npz"), grid=np.zeros((2, 2), int))
    return IndexFile.read(path.with_suffix(".npz"), 64, 8)


def no_record(path):
    Image.new("RGB", (8, 8)).save(path)
    return record.read(path)


def sampled(path):
    kept = Record({"prior": None}, np.zeros((1, 2, 2), int))
    Image.new("RGB", (8, 8)).save(path, pnginfo=kept.info())
    return record.read(path)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda path: picture(path, b"hello"), "x.png 不是已知格式的图片"),
        (lambda path: open_image(None), "没有收到图片：请选择一个文件。"),
        (lambda path: picture(path, b""), "x.png 是空文件"),
        (cut_off, "x.png 已损坏"),
        (
            lambda path: open_image(Image.new("L", (9000, 9000))),
            "9,000 x 9,000 像素：最多可读取 64",
        ),
        (
            lambda path: open_image(Image.new("1", (1, 30_000))),
            "the picture 的尺寸是 1 × 30,000 像素：任何一边最长 20,000 像素，请",
        ),
        (lambda path: picture(path, claiming(20_000)), "x.png 的像素太多：最多可读取 64 百万"),
        (lambda path: codes(path, np.full((2, 2), 70)), "文件中的码从 70 到 70"),
        (lambda path: codes(path, np.full((2, 2), 2**63, np.uint64)), "从 9223372036854775808 到"),
        (lambda path: codes(path, np.zeros((2, 2))), "文件中的码是 float64"),
        (lambda path: codes(path, np.array([["7"]])), "文件中的码是 &lt;U1：码是整数"),
        (lambda path: codes(path, np.zeros(5, int)), "数组的形状是 (5,)"),
        (lambda path: codes(path, np.zeros((300, 300), int)), "网格有 300 × 300 格"),
        (unnamed, "没有名为 `indices` 的数组"),
        (no_record, "没有记录生成方式"),
        (sampled, "该文件来自“采样”页"),
        (lambda path: check_code(64, 64), "码 64 不存在：该码本的码为 0 到 63"),
        (lambda path: check_code("a", 64), "码必须是整数"),
        (
            lambda path: open_picture(None, path, 128),
            "工作尺寸是 128：请选择 &#x27;128&#x27;, &#x27;256&#x27;",
        ),
        (lambda path: Request("red", None), "mode 是 None：请选择 both, prior, guided。"),
        (lambda path: GuidanceConfig(optimizer=None), "optimizer 是 None：请选择 adam"),
        (lambda path: GuidanceConfig(method=None), "method 是 None：请选择 latents"),
        (lambda path: Latents().start(GUMBEL, torch.zeros(1, 4, 2, 2)), "请在“优化对象”中选择"),
    ],
)
def test_a_refusal_is_said_in_both_languages(tmp_path, act, said):
    with pytest.raises(Exception) as caught:
        friendly(act)(tmp_path / "x.png")
    english, chinese = caught.value.message.split('<span lang="zh">')
    assert english.startswith('<span lang="en">') and said in chinese


def test_an_unknown_one_stays_english_and_no_file_name_becomes_markup():
    assert in_both("no such <thing>") == "no such &lt;thing&gt;"
    html = in_both("<b>.png is damaged or cut off: oh.")
    assert "<b>" not in html and html.count("&lt;b&gt;.png") == 2
