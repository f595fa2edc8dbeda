"""What library code says about a visitor's file or value, in Chinese.

Libraries raise a ValueError with one English sentence and know nothing of languages; here are the
sentences that a visitor can meet. One that is not among them is shown in English to everybody.
"""

from __future__ import annotations

import re
from html import escape

FORMATS = "可读取 PNG、JPEG、WebP、AVIF、GIF、BMP 和 TIFF"
# English sentence -> Chinese one. {0}, {1}... are what the groups caught.
KNOWN = tuple(
    (re.compile(english, re.S), chinese)
    for english, chinese in (
        # vqgan.images.open_image
        (
            r"(.+) is not a picture of a known format: .+",
            f"{{0}} 不是已知格式的图片：{FORMATS}。",
        ),
        (r"no picture was given but .+: choose a file\.", "没有收到图片：请选择一个文件。"),
        (
            r"(.+) is empty \(0 bytes\): choose a picture\..+",
            f"{{0}} 是空文件（0 字节）：请选择一张图片。{FORMATS}。",
        ),
        (r"(.+) is damaged or cut off: .+", "{0} 已损坏或不完整。"),
        (
            r"(.+) has far too many pixels: at most (\S+) million can be read, .+",
            "{0} 的像素太多：最多可读取 {1} 百万像素，请先缩小。",
        ),
        (
            r"(.+) is (\S+) x (\S+) pixels: no side may be longer than (\S+), so .+",
            "{0} 的尺寸是 {1} × {2} 像素：任何一边最长 {3} 像素，请先裁剪或缩小。",
        ),
        (
            r"(.+) has (.+) pixels: at most (\S+) million can be read, so scale it down first\.",
            "{0} 有 {1} 像素：最多可读取 {2} 百万像素，请先缩小。",
        ),
        # vqgan.grids
        (
            r"code (-?\d+) does not exist: this codebook has codes 0 to (\d+)",
            "码 {0} 不存在：该码本的码为 0 到 {1}。",
        ),
        (
            r"cell \((-?\d+), (-?\d+)\) lies outside this grid of (\d+) rows, (\d+) columns",
            "格子（{0}, {1}）不在这个 {2} 行 {3} 列的网格内。",
        ),
        (r"(.+) is no code: it must be a whole number", "{0} 不是码：码必须是整数。"),
        (
            r"these indices belong to a codebook of (\d+) codes: this model has (\d+), .+",
            "这些码属于一个有 {0} 个码的码本：该模型有 {1} 个，请用生成它们的模型打开。",
        ),
        (
            r"the indices run from (-?\d+) to (-?\d+): this model's codebook of (\d+) .+",
            "文件中的码从 {0} 到 {1}：该模型的码本有 {2} 个码，编号从 0 开始。",
        ),
        (
            r"the file unpacks to (\d+) MB: a grid of codes takes at most (\d+) MB",
            "文件解压后有 {0} MB：码网格最多占 {1} MB。",
        ),
        (
            r"this is not a file of indices.+",
            "这不是码文件：请提供含有整数数组 `indices` 的 .npz 文件。",
        ),
        (
            r"the file has no array named `indices`: .+",
            "文件中没有名为 `indices` 的数组：请用 numpy.savez(file, indices=grid) 保存网格。",
        ),
        (r"the indices are (\S+): codes are .+", "文件中的码是 {0}：码是整数，请保存为整数。"),
        (
            r"the indices have shape (\(.*\)): a grid has two axes, .+",
            "数组的形状是 {0}：网格有两个轴（行，列），例如 (16, 16)。",
        ),
        (
            r"the grid has (\d+) x (\d+) cells: at most (\d+) can be decoded here",
            "网格有 {0} × {1} 格：这里最多可解码 {2} 格。",
        ),
        # ui.session
        (r"the working size is (.+): choose (.+)", "工作尺寸是 {0}：请选择 {1}。"),
        # clip_guidance
        (r"(mode|optimizer|method) is (.+): choose (.+)", "{0} 是 {1}：请选择 {2}。"),
        (
            r"this file does not say how it was made: .+",
            "该文件没有记录生成方式：请使用在此保存、未经修改的 PNG。",
        ),
        (
            r"this file comes from the Sample tab: .+",
            "该文件来自“采样”页：请使用在“文生图”页保存的 PNG。",
        ),
        (
            r"this model's codes are not nearest neighbours: .+",
            "该模型的码不是最近的邻居：请在“优化对象”中选择“码的 logits”。",
        ),
        (
            r"the prior was not trained with this CLIP: .+",
            "先验模型不是用这个 CLIP 训练的：请选择“仅引导”，或使用自带的 CLIP。",
        ),
    )
)


def in_both(sentence: str) -> str:
    """HTML with a library's sentence in both languages, where its Chinese is known."""
    for english, chinese in KNOWN:
        if found := english.fullmatch(sentence):
            said = chinese.format(*found.groups())
            return f'<span lang="en">{escape(sentence)}</span><span lang="zh">{escape(said)}</span>'
    return escape(sentence)
