"""In which points a training of SCHP follows its authors' code, and in which it does better."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Manner:
    """True: as the authors' code has it (github.com/GoGoDuck912/Self-Correction-Human-Parsing at
    eb84c43).

    edges: vertical transitions are marked on the lower pixel (else the upper), and pixels outside
    the image count as "no edge", in the weights of the two sides as well (else they are left out).

    Of the cycles, in which labels are refined by an average (the teacher):
    kl_per_class: the divergence is a mean over pixels and classes, C times smaller than the
    cross-entropy it takes the place of (else over pixels). refined_edges: edges are refined too, by
    a divergence without weights (else they keep their cross-entropy). fused: the teacher's fused
    output refines both heads (else each its own). padding_counts: pixels outside the image become
    background once the first head's Lovasz loss is taken (else they stay left out). batch_norms:
    the teacher stays in train mode, so that its soft labels come from the batch's statistics (else
    from those that were just estimated). augmented: these are estimated on augmented images (else
    on images as they are). one_optimiser: momentum goes on through all cycles, and the rate changes
    once per epoch (else each cycle begins anew).
    """

    edges: bool = False
    kl_per_class: bool = False
    refined_edges: bool = False
    fused: bool = False
    padding_counts: bool = False
    batch_norms: bool = False
    augmented: bool = False
    one_optimiser: bool = False


OURS = Manner()
PUBLISHED = Manner(**{field.name: True for field in fields(Manner)})
# Without what is evidently no choice of theirs.
MENDED = replace(PUBLISHED, padding_counts=False, batch_norms=False)
MANNERS = {"published": PUBLISHED, "mended": MENDED, "ours": OURS}
