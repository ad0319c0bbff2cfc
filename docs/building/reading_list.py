"""The tables of the reading list: which recipes, and which of their sources, each shows."""

from __future__ import annotations

from dataclasses import dataclass

from reid_train.classify.recipe import Accuracies, list_learners
from reid_train.recipe.loading import list_recipes
from reid_train.recipe.schema import Published


@dataclass(frozen=True)
class Section:
    """A table of the reading list: the recipes whose expected results from ``sources`` (a part of
    their text) it shows; the first section that fits a result has it.
    """

    title: str
    text: str
    recipes: tuple[str, ...]
    sources: tuple[str, ...] = ("",)
    splits: tuple[str, ...] = ("",)

    def shows(self, name: str, given: Published) -> bool:
        split = given.split if isinstance(given, Accuracies) else ""
        return (
            name in self.recipes
            and any(text in given.source for text in self.sources)
            and ("" in self.splits or split in self.splits)
        )


OWN = ("docs/results.md",)
LEARNERS = ("zero-shot", "coop", "cocoop", "maple")
SECTIONS = (
    Section(
        "CLIP-ReID and its baselines: people",
        "Camera embeddings (SIE) and overlapping patches (OLP) are one recipe here, as in the "
        "paper's last line. Somebody who evaluated the released MSMT17 weights of that line "
        "found 70.7 mAP and 87.0 rank-1 (issue 40 of the authors' repository), not the paper's.",
        (
            "baseline-rn50",
            "clip-reid-rn50",
            "baseline-vit",
            "clip-reid-vit",
            "clip-reid-vit-sie-olp",
        ),
        ("CLIP-ReID, AAAI", "Syliz517"),
    ),
    Section(
        "CLIP-ReID and its baselines: vehicles",
        "VehicleID is its small test (800 vehicles), the mean of ten draws of the gallery. "
        "Issue 21 of the authors' repository reports 75.5 mAP and 92.0 rank-1 for the ResNet-50 "
        "on VeRi.",
        (
            *(
                f"{kind}-{data}"
                for data in ("veri", "vehicleid")
                for kind in ("baseline-rn50", "clip-reid-rn50", "baseline-vit", "clip-reid-vit")
            ),
            "clip-reid-vit-sie-olp-veri",
        ),
    ),
    Section(
        "PCL-CLIP with labels",
        "",
        ("pcl-clip", "pcl-clip-veri"),
    ),
    Section(
        "PCL-CLIP without labels",
        "The authors released no code for it: the values are those of another repository, and "
        "the paper's own figures stand beside. O2CAP + PCL-CLIP, with proxies of cameras, has "
        "no recipe here.",
        ("pcl-clip-usl", "pcl-clip-usl-msmt17"),
    ),
    Section(
        "pi-VL, first version: Table 2",
        "Label maps by SCHP, its LIP weights. The line CLIP-ReID of the table is the one above.",
        ("pi-vl-rn50", "pi-vl-vit"),
        ("v1 Table 2",),
    ),
    Section(
        "pi-VL, first version: ablation and parsers (Tables 3 and 4)",
        "On DukeMTMC-reID with the ResNet-50. The paper's mIoUs of the parsers are of different"
        " benchmarks.",
        ("clip-reid-rn50", "pi-vl-rn50-h", "pi-vl-rn50-p", "pi-vl-rn50"),
        ("v1 Table 3", "v1 Tables 3", "v1 Table 4"),
    ),
    Section(
        "pi-VL, second version",
        "With the alignment weighted by the parser's confidence, and CLIP-ReID as these authors"
        " reproduced it. The lines +H and +P of Table II are left out: which of the recipes "
        "here they are is not clear from the paper's text as we know it.",
        ("clip-reid-rn50", "clip-reid-vit-sie-olp", "pi-vl-rn50-w", "pi-vl-vit-w"),
        ("2308.02738 v2",),
    ),
    Section(
        "pi-VL, first version: students (Table 5)",
        "MobileNetV2 x0.25 against texts tuned with CLIP's ResNet-50.",
        (
            "distill-mobilenet-none",
            "distill-mobilenet-clip-reid",
            "distill-mobilenet-pi-vl",
        ),
    ),
    Section(
        "Three pair losses, and two more, on ResNet-50 (Simple-ReID)",
        "`ianet-triplet`, `ianet-contrastive` and `ianet-cosface` are the same training with "
        "IANet's blocks, which nobody published: nothing is expected of them. The IANet paper "
        "trains otherwise.",
        tuple(
            f"resnet50-{loss}"
            for loss in ("triplet", "contrastive", "cosface", "circle", "arcface")
        ),
    ),
    Section(
        "BigNet and SliceNet (COL780)",
        "One of the 28 queries is 3.6 points of rank-1.",
        ("bignet", "bignet-aug", "slicenet1", "slicenet2"),
    ),
    Section(
        "Prompt learners: base to new",
        "16 images of each base class, three seeds. The published averages are over eleven "
        "sets, of which three are here (MaPLe's README at 69bce21: base, new, H of CLIP 69.34, "
        "74.22, 71.70; CoOp 82.69, 63.22, 71.66; CoCoOp 80.47, 71.69, 75.83; MaPLe 82.28, "
        "75.14, 78.55).",
        LEARNERS,
        splits=("base-new",),
    ),
    Section(
        "Prompt learners: other datasets",
        "Learnt on ImageNet, 16 images of each class, and asked elsewhere.",
        LEARNERS,
        splits=("cross",),
    ),
    Section(
        "Prompt learners: ImageNet's variants",
        "",
        LEARNERS,
        splits=("domain",),
    ),
    Section(
        "CoOp: few shots",
        "The paper gives its curves over shots as pictures; the one number on ViT-B/16 with 16 "
        "vectors is ImageNet's.",
        LEARNERS,
        splits=("all",),
    ),
    Section(
        "Measured here",
        "Recipes of this project and small ones, as [results.md](results.md) has them, with the"
        " standard deviation over seeds: what a repetition on another machine can be held "
        "against. Seconds to minutes on two CPU cores.",
        (*list_recipes(), *list_learners()),
        OWN,
    ),
)
