"""Images of one's own: folders, names and tables that follow no published scheme."""

from pipeline.datasets.layouts.own.holdout import Holdout
from pipeline.datasets.layouts.own.reading import read_own

__all__ = ["Holdout", "read_own"]
