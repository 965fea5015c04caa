import json

import glc_toolkit as glc
from glc_toolkit import zoo
from glc_toolkit.facts import Facts


def test_facts_print_one_a_line_and_stay_a_dictionary():
    facts = Facts(name="a & b", share=0.25, parts={"z": 1234})
    assert str(facts).splitlines() == ["name   a & b", "share  0.2500", "parts", "  z    1,234"]
    assert "a &amp; b" in facts._repr_html_()
    assert json.loads(json.dumps(facts)) == facts == {"name": "a & b", "share": 0.25, "parts": {"z": 1234}}
    assert str(Facts()) == ""


def test_what_info_gives_reads_well(model, photo, tiny_folder):
    printed = str(glc.info(glc.encode(photo.crop((0, 0, 64, 64)), model=model)))
    assert model.config["name"] in printed and "\n  y pass 3" in printed
    assert "tiny" in str(zoo.info(tiny_folder))


def test_a_model_says_what_it_is(model):
    text = repr(model)
    size = f"levels={model.levels}, parameters={sum(p.numel() for p in model.parameters()):,}"
    assert text.startswith(f"GLCImage(\n  {model.config['name']!r}, {size}")
    assert f"(backbone): {type(model.backbone).__name__}(" in text
    summary = model.summary()
    assert summary["fingerprint"] == model.fingerprint().hex()
    assert summary["components"]["backbone"].startswith(f"{model.config['backbone']['name']}, ")
    html = model._repr_html_()
    assert model.config["context"]["name"] in html and "<details>" in html and "<lambda>" not in html
