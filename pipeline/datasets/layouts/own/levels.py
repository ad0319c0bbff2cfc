"""Which level of folders above the images is the people's, and which the cameras'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.datasets.layouts.own.words import are_cameras, split_of
from pipeline.terminal.errors import ReidpipeError

Folders = tuple[str, ...]
# So many images for one that lies higher: that one was forgotten there.
_MANY_MORE = 10


@dataclass(frozen=True)
class Levels:
    """Positions of the people's and the cameras' folder in an image's folders; None: there is none.

    depth: number of folders of the images that count; others lie beside or below them.
    """

    depth: int
    person: int | None
    camera: int | None

    @property
    def words(self) -> str:
        """How the tree was understood, for the line that tells it."""
        if self.person is None:
            return "flat names" if self.camera is None else "camera folders with flat names"
        if self.camera is None:
            return "identity folders"
        above, below = (
            ("camera", "identity") if self.camera < self.person else ("identity", "camera")
        )
        return f"{above} folders above {below} folders"


def find_levels(folders: Sequence[Folders], *, where: str, people: bool = True) -> Levels:
    """The levels of a tree from the folders of each image, outermost first.

    A level whose names are all cameras' is the cameras' where another is left for people; a level
    that holds nothing but folders is never the people's. people: whether folders are asked who the
    images show (False: a rule says it, and only cameras are looked for).
    Raises ReidpipeError for trees that can be understood in two ways.
    """
    depths = Counter(len(chain) for chain in folders)
    if not people:
        return Levels(max(depths), None, _surely_cameras(folders))
    if set(depths) == {0}:
        return Levels(0, None, None)
    depth = min(length for length in depths if length)
    usual = max(depths, key=lambda length: (depths[length], -length))
    if depths[usual] >= _MANY_MORE * sum(n for length, n in depths.items() if length < usual):
        depth = usual or depth
    chains = [chain for chain in folders if len(chain) >= depth]
    deeper = next((chain for chain in chains if len(chain) > depth), None)
    if deeper is not None and sum(len(c) > depth for c in chains) > depths[depth]:
        shallow = next(chain for chain in chains if len(chain) == depth)
        raise ReidpipeError(
            f"found images at different depths in {where}, as in {'/'.join(shallow)} and "
            f"{'/'.join(deeper)}; expected one folder per person with the images in it; type a "
            "--rule that reads the path, such as '(?P<pid>[^/]+)/'"
        )
    names = [{chain[level] for chain in chains} for level in range(depth)]
    if depth == 1:
        camera = 0 if are_cameras(names[0], surely=True) and len(names[0]) > 1 else None
        return Levels(1, None if camera == 0 else 0, camera)
    camera = _camera_level(names)
    left = [level for level in range(depth) if level != camera]
    if len(left) > 1:
        # train/images/0001: a folder that all share says nothing of anybody.
        left = [level for level in left if len(names[level]) > 1] or left[-1:]
    if len(left) > 1:
        raise ReidpipeError(_ambiguous(chains[0], names, camera, where))
    return Levels(depth, left[0], camera)


def _surely_cameras(folders: Sequence[Folders]) -> int | None:
    for level in range(min(map(len, folders))):
        if are_cameras({chain[level] for chain in folders}):
            return level
    return None


def _camera_level(names: Sequence[set[str]]) -> int | None:
    """The one level of cameras, by a word for camera or else by short names; None otherwise."""
    for surely in (True, False):
        found = [level for level, known in enumerate(names) if are_cameras(known, surely=surely)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _ambiguous(chain: Folders, names: Sequence[set[str]], camera: int | None, where: str) -> str:
    shown = "/".join(chain)
    words = sorted({name for known in names for name in known if split_of(name)})
    if words:
        return (
            f"found the split folders {', '.join(words[:4])} below others in {where}, as in "
            f"{shown}; expected splits outermost: FOLDER/<split>/<identity>/<image>; move them"
        )
    readings = []
    for level in range(len(chain)):
        if level != camera:
            parts = ["[^/]+"] * len(chain)
            parts[level] = "(?P<pid>[^/]+)"
            if camera is not None:
                parts[camera] = "(?P<camid>[^/]+)"
            readings.append(f"'{'/'.join(parts)}/'")
    return (
        f"found {len(chain)} levels of folders in {where}, as in {shown}, and nothing that says "
        "which are people; expected FOLDER/<identity>/<image>, with camera folders such as cam1 "
        "above or below; type the rule that fits, with (?P<camid>[^/]+) for a level of cameras: "
        f"--rule {' or --rule '.join(readings)}"
    )
