"""Whether the images an index names are those it was made of, byte by byte.

A file whose size or time changed leads to a new index by itself (``fingerprints``). One that
was replaced and kept both is found here, as the index has the SHA-256 of every image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from pipeline.artifacts.mark import read_mark
from pipeline.datasets.annotations import indexed_annotations
from pipeline.datasets.catalogue import defined
from pipeline.datasets.fingerprints import fingerprint, fingerprints
from pipeline.datasets.index import read_index
from pipeline.images.originals import ChangedImage, changed


def changed_images(folder: Path, *, progress: bool = False) -> Iterator[ChangedImage]:
    """An error for every image, and label map, of the index in ``folder`` that has other bytes now.
    Those that are gone are none. What lies inside the folder are files of the artifact, which its
    mark tells of.
    """
    index = read_index(folder)
    if index.root.is_relative_to(folder):
        return
    originals = {row.path: index.original(row) for row in index.rows}
    originals |= {str(label.path): label for label in indexed_annotations(index.root, index.rows)}
    with tqdm(total=len(originals), desc="images", unit="image", disable=not progress) as bar:

        def passing() -> Iterator:
            for original in originals.values():
                yield original
                bar.update()

        yield from changed(passing())


def of_the_past(folder: Path) -> str:
    """Why the index in ``folder`` is about another state of its dataset than today's, or nothing:
    what changed openly has an index of its own, or will have.
    """
    params = read_mark(folder)["params"]
    if not isinstance(params.get("root"), str) or "fingerprint" not in params:
        return ""  # generated
    root = Path(params["root"])
    if not root.exists():
        return f"{root} is gone"
    manifest = defined(params["dataset"], params.get("definition"))
    found = (
        fingerprint(root)
        if manifest is None
        else fingerprints(manifest, root, workspace=folder.parents[2])["fingerprint"]
    )
    return "" if found == params["fingerprint"] else f"{root} has other files by now"
