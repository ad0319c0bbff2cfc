"""Label maps over their images: what the runs' parsers saw."""

from __future__ import annotations

from pipeline.artifacts.requests import index_of
from pipeline.artifacts.steps import Step
from pipeline.datasets.index import read_index
from pipeline.images.pixels import decode
from pipeline.labels.maps import LabelMapReader
from pipeline.labels.pictures import legend, overlay
from pipeline.terminal.errors import ReidpipeError
from reid_train.figures.charts.grid import Cell, grid
from reid_train.figures.paper.asked import Asked, Drawn, maps_of, no_such_image, spread
from reid_train.figures.paper.captions import names
from reid_train.figures.paper.lists import choice

SHOWN = {"one": 4, "two": 8}


def steps(asked: Asked) -> list[Step]:
    """The label maps that the runs read, and their index. Raises ReidpipeError where a run read
    none, or others those of another dataset.
    """
    found: list[Step] = []
    for name, run in asked.runs.items():
        maps = maps_of(run)
        if maps is None:
            raise ReidpipeError(
                f"found {name}, which read no label maps; expected runs of part-informed recipes "
                "such as pi-vl-tiny; type reidpipe figure maps RUN of one, or reidpipe parse "
                "--preview"
            )
        if found and index_of(maps).key != index_of(found[0]).key:
            first = next(iter(asked.runs))
            raise ReidpipeError(
                f"found {first} with label maps of {index_of(found[0]).params['dataset']} and "
                f"{name} with those of {index_of(maps).params['dataset']}; expected maps of the "
                "same images in a figure; type a figure for each"
            )
        if maps not in found:
            found.append(maps)
    return [index_of(found[0]), *found]


def draw(asked: Asked) -> Drawn:
    """A row of images, and one of each parser's maps over them."""
    source, *made = steps(asked)
    index = read_index(asked.workspace.folder(source))
    readers = [LabelMapReader(asked.workspace.folder(step)) for step in made]
    rows = {row.key: row for row in index.rows if all(row.key in reader for reader in readers)}
    if not rows:
        raise ReidpipeError(
            f"found no image of {index.dataset} with a label map; expected some; type reidpipe "
            "parse"
        )
    if asked.queries is None or isinstance(asked.queries, int):
        tested = [row.key for row in rows.values() if row.split in ("query", "gallery")]
        keys = spread(tested or list(rows), asked.queries or SHOWN[asked.width])
    else:
        keys = list(dict.fromkeys(asked.queries))
    for key in keys:
        if key not in rows:
            raise no_such_image(key, f"image of {index.dataset} with a map", next(iter(rows)))
    pictures = {key: decode(index.original(rows[key]), decoding=index.decoding) for key in keys}
    shown, colours, told = [[Cell(pictures[key]) for key in keys]], {}, []
    for reader in readers:
        labels = [reader[key][0] for key in keys]
        shown.append(
            [
                Cell(overlay(pictures[key], label, reader.label_set, opacity=0.65))
                for key, label in zip(keys, labels, strict=True)
            ]
        )
        for entry in legend(labels, reader.label_set):
            colours[entry.colour, entry.name] = None
        height, width = reader.size
        told.append(
            f"{reader.attributes.get('model', 'an unknown parser')} (labels "
            f"{reader.label_set.name}, {height}x{width}, maps {reader.folder.name})"
        )
    parsers = [str(reader.attributes.get("model", "maps")) for reader in readers]
    figure = grid(shown, row_names=["image", *parsers], key=list(colours), width=asked.width)
    caption = f"Label maps of {index.dataset} (index {source.key}) by {names(told)}; "
    return Drawn(figure, f"{caption}{choice(asked, keys, 'images')}. Background is left untinted.")
