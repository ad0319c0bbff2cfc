"""One module per checkpoint format; each ``read`` takes a state dict apart into ``Imported``.

``FORMATS[name](state, source, **options) -> Imported``: its keyword arguments are the options.
"""

from __future__ import annotations

from pipeline.plugins import Door

FORMATS = Door(
    "importer",
    {
        "clip-reid": "reid_train.exchange.formats.clip_reid:read",
        "col780": "reid_train.exchange.formats.col780:read",
        "fast-reid": "reid_train.exchange.formats.fast_reid:read",
        "ianet": "reid_train.exchange.formats.ianet:read",
        "pcl-clip": "reid_train.exchange.formats.pcl_clip:read",
        "simple-reid": "reid_train.exchange.formats.simple_reid:read",
        "torchreid": "reid_train.exchange.formats.torchreid:read",
    },
)
