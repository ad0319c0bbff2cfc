"""Our prompt tuning beside the plain way, in one process, as ratios.

    python benchmarks/text.py                       # ViT-B/16's text tower, under two minutes
    python benchmarks/text.py --layers 3 --labels 64 --identities 8

A step is forward and backward to the identity vectors, random weights. The plain way runs all 77
positions of every prompt, once per image of the batch, and leaves the tower's weights training as
CLIP-ReID's code does (their gradients are computed and never used); for part prompts it is also
shown with frozen weights. Seconds are CPU seconds of this process, so set OMP_NUM_THREADS=1 for the
cost of one core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pipeline.labels.sets import LIP
from reid_train.models.clip.text import ClipText
from reid_train.models.prompts import IdentityPrompts, IdentityTexts, tokenise

IDENTITIES = 751


def main() -> None:
    parser = argparse.ArgumentParser(description="our prompt tuning beside the plain way")
    parser.add_argument("--layers", type=int, default=12, help="blocks of the tower")
    parser.add_argument("--labels", type=int, default=16, help="images in an identity step")
    parser.add_argument("--identities", type=int, default=1, help="identities in a part step")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    tower = ClipText(layers=options.layers)
    texts = IdentityTexts(tower, IdentityPrompts(tower, IDENTITIES))
    labels = torch.randint(IDENTITIES, (options.labels,))
    ids = torch.randperm(IDENTITIES)[: options.identities].sort().values
    plain = Plain(texts)
    print(f"{options.layers} blocks, {options.labels} random labels of {IDENTITIES}; "
          f"{options.identities} identities x {len(LIP)} parts")  # fmt: skip

    identity = {
        "plain, weights training": (True, lambda: plain.identities(labels)),
        "ours, weights frozen": (False, lambda: texts(labels)),
    }
    seconds, worst = compare("identity prompts", texts, identity, options.repeat)
    ratio = seconds["plain, weights training"] / seconds["ours, weights frozen"]
    print(f"identity prompts: plain / ours = {ratio:.1f} in time; differ by {worst:.1e}")

    part = {
        "plain, weights training": (True, lambda: plain.parts(ids)),
        "plain, weights frozen": (False, lambda: plain.parts(ids)),
        "ours, weights frozen": (False, lambda: texts.parts(ids, LIP.names).rows),
    }
    seconds, worst = compare("part prompts", texts, part, options.repeat)
    for kind in ("training", "frozen"):
        ratio = seconds[f"plain, weights {kind}"] / seconds["ours, weights frozen"]
        print(f"part prompts, plain {kind}: plain / ours = {ratio:.1f} in time")
    print(f"part prompts differ by {worst:.1e}")


class Plain:
    """Every prompt at full length through open_clip's blocks, as the methods are described."""

    def __init__(self, texts: IdentityTexts) -> None:
        self.tower, self.context = texts.text_encoder, texts.prompt_learner.cls_ctx
        self.whole = tokenise(["A photo of a X X X X person."])
        names = [name.replace("-", " ") for name in LIP.names]
        self.part = tokenise([f"A photo of a X X X X person's {name}." for name in names])

    def identities(self, labels: Tensor) -> Tensor:
        return self._encode(self.whole.expand(len(labels), -1), self.context[labels])

    def parts(self, ids: Tensor) -> Tensor:
        tokens = self.part.repeat(len(ids), 1)
        context = self.context[ids].repeat_interleave(len(self.part), dim=0)
        return self._encode(tokens, context).unflatten(0, (len(ids), -1))

    def _encode(self, tokens: Tensor, context: Tensor) -> Tensor:
        tower = self.tower
        words = tower.token_embedding(tokens)
        x = torch.cat([words[:, :5], context, words[:, 9:]], dim=1) + tower.positional_embedding
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask))
        return x[torch.arange(len(x)), tokens.argmax(dim=1)] @ tower.text_projection


def compare(
    title: str,
    texts: IdentityTexts,
    ways: dict[str, tuple[bool, Callable[[], Tensor]]],
    repeat: int,
) -> tuple[dict[str, float], float]:
    """Median CPU seconds of a step of each way, and the greatest difference between their rows."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    rows: list[Tensor] = []
    for name, training, way in turns(ways, repeat):
        texts.text_encoder.requires_grad_(training)
        texts.zero_grad(set_to_none=True)
        started = time.process_time()
        result = way()
        result.square().sum().backward()
        times[name].append(time.process_time() - started)
        rows.append(result.detach())
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"  {title}, {name:24s} {value:8.3f} CPU s")
    return medians, max(float((other - rows[0]).abs().max()) for other in rows)


def turns(
    ways: dict[str, tuple[bool, Callable[[], Tensor]]], repeat: int
) -> Iterator[tuple[str, bool, Callable[[], Tensor]]]:
    """The ways take turns, so that noise hits all alike."""
    for _ in range(repeat):
        for name, (training, way) in ways.items():
            yield name, training, way


if __name__ == "__main__":
    main()
