import importlib.util

import numpy as np
import pytest

from clip_guidance import teacher


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"requirements-dev\.txt"):
        teacher.Teacher()


@pytest.mark.skipif(
    importlib.util.find_spec(teacher.PACKAGE) is None, reason="the sentence encoder is not here"
)
def test_meaning_is_near_and_batches_do_not_matter():
    texts = ["a red apple", "automobile", "a green car", "a very long text about " + "apples " * 99]
    minilm = teacher.Teacher()
    found = minilm.encode(texts, batch=2)
    assert found.shape == (4, teacher.SIZE) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    alone = np.concatenate([minilm.encode([text]) for text in texts])
    assert np.allclose(found, alone, atol=1e-4)
    assert found[1] @ found[2] > found[0] @ found[2] + 0.1
