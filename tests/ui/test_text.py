"""Both languages, everywhere."""

from __future__ import annotations

import re

import pytest

from ui import page, refusals, text


def test_every_sentence_has_both_languages_and_the_same_places():
    translations = text.translations().translations_dict
    assert translations["en"].keys() == translations["zh"].keys()
    for key, english in translations["en"].items():
        chinese = translations["zh"][key]
        assert english.strip() and chinese.strip(), key
        if not key.startswith("how."):
            places = [sorted(set(re.findall(r"\{(\w+)\}", s))) for s in (english, chinese)]
            assert places[0] == places[1], key


def test_chinese_sentences_have_chinese_punctuation():
    """Full-width next to a Chinese character or a Chinese mark; formulas and code aside."""
    narrow = re.compile(r"[\u4e00-\u9fff”）][,:;?!(]|[,:;?!)][\u4e00-\u9fff]|;")
    said = text.translations().translations_dict["zh"].items()
    said = [*said, *((english.pattern, chinese) for english, chinese in refusals.KNOWN)]
    for key, sentence in said:
        prose = re.sub(r"\$\$.+?\$\$|\$[^$]+\$|`[^`]+`|<[^>]+>|\{\w+\}", "", sentence, flags=re.S)
        assert not narrow.search(prose), (key, narrow.search(prose))


@pytest.mark.parametrize("models", ["studio", "writer"])
def test_what_the_page_shows_is_translated(models, request):
    """Labels, values, placeholders and choices are markers, or have no words in them."""
    config = page.build(request.getfixturevalue(models)).get_config_file()
    wordless = re.compile(r"[\d\W_]*")
    for component in config["components"]:
        props = component["props"]
        if props.get("visible") is False:
            continue
        texts = [props.get(name) for name in ("label", "info", "placeholder")]
        if component["type"] in ("button", "markdown", "downloadbutton", "uploadbutton"):
            texts.append(props.get("value") if component["type"] in ("button", "markdown") else "")
        texts += [choice[0] for choice in props.get("choices") or []]
        for shown in filter(None, texts):
            assert "__i18n__" in str(shown) or wordless.fullmatch(str(shown)), (component, shown)


def test_our_html_carries_both_languages():
    html = text.both("app.model", name="<b>", f=8)
    assert '<span lang="en">Model <b>&lt;b&gt;</b>: 1 code = 8×8 pixels</span>' in html
    assert '<span lang="zh">模型' in html


def test_unknown_and_double_keys_are_errors():
    with pytest.raises(KeyError):
        text.t("no.such.text")
    with pytest.raises(ValueError, match="exists already"):
        text.add({"app.title": ("other", "别的")})
    with pytest.raises(ValueError, match="needs English and Chinese"):
        text.add({"half": ("only English", "")})
