"""The readers a manifest may name: trees that folders, lists and a name rule do not describe.

``READERS[name](reading)`` appends the rows of a tree to ``reading`` (``Reading``); a reader that
unpacks label maps or images which exist only inside .mat files takes ``(reading, output)`` and
writes PNG files into the folder ``output``.
"""

from __future__ import annotations

from pipeline.plugins import Door

READERS = Door(
    "layout",
    {
        "files": "pipeline.datasets.layouts.files:read_files",
        "class_folders": "pipeline.datasets.layouts.classes:read_class_folders",
        "pets": "pipeline.datasets.layouts.classes:read_pets",
        "flowers": "pipeline.datasets.layouts.classes:read_flowers",
        "cuhk03_mat": "pipeline.datasets.layouts.cuhk03:read_cuhk03_mat",
        "pascal_context": "pipeline.datasets.layouts.parsing:read_pascal_context",
        "ccp": "pipeline.datasets.layouts.parsing:read_ccp",
        "image_folders": "pipeline.datasets.layouts.image_folders:read_image_folders",
        "own": "pipeline.datasets.layouts.own:read_own",
    },
)
