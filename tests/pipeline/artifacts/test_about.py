"""What is told of a step: its own words, else those of the steps it stands on."""

from __future__ import annotations

from pipeline.artifacts import requests
from pipeline.artifacts.about import about
from pipeline.artifacts.steps import Step


def test_the_seed_is_the_training_s():
    index = requests.index("mannequins", {"seed": 3})
    features = Step("features", {"seed": 0}, {"index": index})
    prompts = Step("prompts", {"seed": 4, "stage": {}}, {"features": features})
    text = Step("text", {"seed": 0}, {"prompts": prompts})
    model = Step("model", {"seed": 4, "recipe": {"name": "pi-vl-tiny"}}, {"text": text})
    assert [about(step).seed for step in (index, features, prompts, text, model)] == [
        None, None, 4, 4, 4,
    ]  # fmt: skip
    assert str(about(text)) == "mannequins seed 4"
    assert str(about(model)) == "pi-vl-tiny mannequins seed 4"
