"""Images of one's own: folders, names and tables that follow no published scheme."""

from pipeline.datasets.layouts.own.holdout import Holdout
from pipeline.datasets.layouts.own.reading import read_own
from pipeline.datasets.layouts.own.tree import other_files

__all__ = ["Holdout", "other_files", "read_own"]
