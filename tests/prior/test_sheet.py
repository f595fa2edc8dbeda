"""PNG files that carry what made them."""

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from prior.sheet import Record, bits_per_code, check_grids, weights_id

CODES = np.arange(12).reshape(2, 2, 3)


def test_a_record_comes_back(tmp_path):
    kept = Record({"seed": 3, "top_p": 0.9}, CODES, (1.25, 2.5))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=kept.info())
    back = Record.read(tmp_path / "a.png")
    assert back.settings == kept.settings and back.bits == kept.bits
    assert np.array_equal(back.codes, CODES)


@pytest.mark.parametrize("change", [{}, {"codes": "[1, 2]"}, {"codes": "x"}, {"settings": "[]"}])
def test_other_pictures_are_refused(tmp_path, change):
    info = PngInfo()
    for key, text in {"settings": "{}", "codes": "[[[1]]]", **change}.items() if change else ():
        info.add_text(key, text)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(ValueError, match="holds no samples"):
        Record.read(tmp_path / "a.png")


def test_small_figures():
    assert bits_per_code(np.array([-np.log(4.0) * 6]), 6) == pytest.approx([2.0])
    assert weights_id({"sha256": {"prior.safetensors": "abc"}}) == "abc" and weights_id({}) is None
    with pytest.raises(ValueError, match="has codes 0 to 10"):
        check_grids(CODES, 11)
