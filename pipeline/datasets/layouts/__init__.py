"""From a dataset's tree on disk to rows: published layouts, and trees of one's own."""

from pipeline.datasets.layouts.reading import read_layout
from pipeline.datasets.layouts.roots import find_root
from pipeline.datasets.layouts.rows import LayoutResult, LayoutRow

__all__ = ["LayoutResult", "LayoutRow", "find_root", "read_layout"]
