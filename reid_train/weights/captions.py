"""Generated people with sentences about them: the batches of image-text pre-training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline.mannequins import Identity, draw, identity
from pipeline.mannequins.scene import scene
from pipeline.terminal.errors import ReidpipeError
from reid_train.data.augmentation import Augmentation, colour
from reid_train.engine.runtime import derive_seed
from reid_train.engine.task import share
from reid_train.models.prompts import tokenise
from reid_train.weights.sentences import KINDS, sentence, words

CAMERAS = 160  # of a world: as many as there are scenes kept, four times what a dataset has
SHARES = (0.3, 0.4, 0.3)  # of the batches that are captions, garments, parts


@dataclass
class CaptionBatches:
    """Rendered once, augmented and put into words anew in every epoch.

    pixels: uint8 N,K,H,W,3 RGB, K images of each of N ``people``, taken before ``places`` N,K. A
    batch is ``images`` uint8 B,3,H,W and ``tokens`` int64 B,context, rows of ``vocabulary``. Its B
    people differ: two images of one person would each be called wrong for the other's sentence. The
    sentences of a batch are of one kind: short ones then cost what they are long.
    """

    pixels: np.ndarray
    people: list[Identity]
    places: list[list[str]]
    batch: int
    seed: int
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            flip=0.5, pad=5, brightness=0.15, contrast=0.15, saturation=0.1
        )
    )

    def __post_init__(self) -> None:
        self.vocabulary = vocabulary()

    @classmethod
    def render(
        cls, people: int, images: int, size: tuple[int, int], *, world: int, batch: int, seed: int
    ) -> CaptionBatches:
        """Draw ``images`` images each of ``people`` people of the population ``world``, each in a
        random one of ``CAMERAS`` cameras, turned further from image to image. A quarter of the
        people are twins of others, as in the dataset. Raises ReidpipeError for fewer than a batch.
        """
        if people < batch:
            raise ReidpipeError(
                f"found {people} people for batches of {batch}; expected one batch at least; type "
                f"--batch {max(people, 1)}"
            )
        pixels = np.empty((people, images, *size, 3), np.uint8)
        rng = np.random.default_rng(derive_seed(seed, "cameras"))
        cameras = rng.integers(CAMERAS, size=(people, images))
        for row in range(people):
            for k in range(images):
                pixels[row, k] = draw(world, row + 1, int(cameras[row, k]), k, size).image
        places = [[scene(world, int(camera))[1] for camera in seen] for seen in cameras]
        return cls(pixels, [identity(world, pid + 1) for pid in range(people)], places, batch, seed)

    def __len__(self) -> int:
        return len(self.people) // self.batch * self.pixels.shape[1]

    def epoch(self, epoch: int, rank: int, world: int) -> Iterator[dict[str, Tensor]]:
        """Raises ReidpipeError where ``world`` does not divide a batch."""
        share(self.batch, 1, rank, world)
        rng = np.random.default_rng(derive_seed(self.seed, "order", epoch))
        count, images = self.pixels.shape[:2]
        turns = rng.permuted(np.tile(np.arange(images), (count, 1)), axis=1)  # N,K
        for turn in range(images):
            order = rng.permutation(count)
            for start in range(0, count - self.batch + 1, self.batch):
                rows = order[start : start + self.batch]
                yield self._batch(rows, turns[rows, turn], rng, slice(rank, None, world))

    def _batch(
        self, rows: np.ndarray, taken: np.ndarray, rng: np.random.Generator, share: slice
    ) -> dict[str, Tensor]:
        kind = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
        said = [
            sentence(self.people[row], self.places[row][k], kind, rng)
            for row, k in zip(rows, taken, strict=True)
        ]
        draws = self.augmentation.draw(len(rows), self.pixels.shape[2:4], rng)
        moved = torch.from_numpy(draws.move(self.pixels[rows, taken])[share]).permute(0, 3, 1, 2)
        factors = torch.from_numpy(draws.factors)[share]
        images = colour(moved.float() / 255, factors)
        return {
            "images": (images * 255).round().to(torch.uint8),
            "tokens": compact(tokenise(said[share]), self.vocabulary),
        }


def vocabulary() -> Tensor:
    """The token ids that sentences are made of, int64 V, ascending."""
    tokens = tokenise(words())
    return tokens[tokens != 0].unique()


def compact(tokens: Tensor, vocabulary: Tensor) -> Tensor:
    """CLIP's token ids -> places in ``vocabulary``; the end token stays the greatest, the zeros
    after it become 0.

    Raises KeyError for a token that is not in it.
    """
    places = torch.searchsorted(vocabulary, tokens).clamp(max=len(vocabulary) - 1)
    strange = (vocabulary[places] != tokens) & (tokens != 0)
    if strange.any():
        raise KeyError(f"token {int(tokens[strange][0])} is not in the vocabulary")
    return places.masked_fill(tokens == 0, 0)
