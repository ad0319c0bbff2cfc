"""Rows of a text encoder for the identities of a training set and for their body parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from pipeline.artifacts.atomic import replacing, write_json
from pipeline.artifacts.checked import read_json
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.engine.checkpoint import read_tensors

ROWS, ABOUT = "text.safetensors", "text.json"


class TextTable(nn.Module):
    """identities C,D: a row per identity, in the order of ``pids``. parts: C,P,D, a row per
    identity and part; or P,D, the same for everybody; or None. part_names: the label set's, P.

    Rows do not train and are no part of a training state: they are an artifact of their own.
    """

    identities: Tensor
    parts: Tensor | None

    def __init__(
        self,
        identities: Tensor,
        pids: Sequence[int],
        parts: Tensor | None = None,
        part_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if len(identities) != len(pids) or (
            parts is not None and (parts.shape[-2] != len(part_names))
        ):
            raise ValueError("rows and names of identities or parts do not fit")
        self.pids, self.part_names = list(pids), list(part_names)
        self.register_buffer("identities", identities.detach().clone(), persistent=False)
        rows = None if parts is None else parts.detach().clone()
        self.register_buffer("parts", rows, persistent=False)

    @property
    def dim(self) -> int:
        """D."""
        return self.identities.shape[1]

    @property
    def part_count(self) -> int:
        """P."""
        return len(self.part_names)

    def parts_of(self, labels: Tensor) -> Tensor:
        """Class numbers int64 N -> part rows N,P,D, or P,D where they are everybody's."""
        assert self.parts is not None
        return self.parts if self.parts.ndim == 2 else self.parts[labels]

    def save(self, folder: Path) -> None:
        """Write ``text.safetensors`` and ``text.json`` (the order of identities, the parts)."""
        from safetensors.torch import save_file

        rows = {"identities": self.identities.cpu().contiguous()}
        if self.parts is not None:
            rows["parts"] = self.parts.cpu().contiguous()
        with replacing(folder / ROWS) as temporary:
            save_file(rows, temporary)
        write_json(folder / ABOUT, {"pids": self.pids, "part_names": self.part_names})

    @classmethod
    def load(cls, folder: Path, pids: Sequence[int]) -> TextTable:
        """The inverse of ``save``. Raises ReidpipeError when it is about other identities than
        ``pids``, in order: rows would stand beside the wrong person."""
        about = read_json(folder / ABOUT)
        if about["pids"] != list(pids):
            raise ReidpipeError(
                f"found texts of {len(about['pids'])} identities in {folder}; expected those of "
                f"the {len(pids)} training identities, in order; type reidpipe cache rm {folder}"
            )
        rows = read_tensors(folder / ROWS, {"identities": 2})
        parts, count = rows.get("parts"), len(about["part_names"])
        dim = rows["identities"].shape[1]
        shapes = ((count, dim), (len(pids), count, dim))  # of all identities, or of each
        if len(rows["identities"]) != len(pids) or (
            tuple(parts.shape) not in shapes if parts is not None else count > 0
        ):
            raise DamagedFile(
                f"found rows of other identities or parts in {folder / ROWS}; expected {len(pids)} "
                f"with {count} parts; type reidpipe cache verify --repair"
            )
        return cls(rows["identities"], about["pids"], rows.get("parts"), about["part_names"])


class TextRows(nn.Module):
    """Head: logits feature . text row of every identity, N,D -> N,C (CLIP-ReID's L_i2tce).

    Nothing is normalised or scaled, as published. ``dim`` is the feature's, ``texts`` the table.
    """

    def __init__(self, texts: TextTable, *, dim: int) -> None:
        super().__init__()
        if dim != texts.dim:
            raise ValueError(f"the feature has {dim} dimensions, the texts {texts.dim}")
        self.register_buffer("rows", texts.identities, persistent=False)

    rows: Tensor

    def forward(self, feature: Tensor) -> Tensor:
        return feature @ self.rows.to(feature.dtype).T
