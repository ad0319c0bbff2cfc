"""What a page is made from is prepared as for the tests without a browser."""

from tests.reid_train.conftest import make_prepared, prepared

__all__ = ["make_prepared", "prepared"]
