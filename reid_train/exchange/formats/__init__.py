"""One module per checkpoint format; each ``read`` takes a state dict apart into ``Imported``."""

from __future__ import annotations

# Format -> module with ``read(state, source, **options) -> Imported`` and the names in ``OPTIONS``;
# imported when asked for, since CLIP's towers take seconds.
FORMATS: dict[str, str] = {
    "clip-reid": "reid_train.exchange.formats.clip_reid",
    "col780": "reid_train.exchange.formats.col780",
    "ianet": "reid_train.exchange.formats.ianet",
    "pcl-clip": "reid_train.exchange.formats.pcl_clip",
    "simple-reid": "reid_train.exchange.formats.simple_reid",
}
