"""What ``train``, ``run`` and ``demo`` do with their options.

Their label maps come from who may know parsers (``cli.py``). Imports nothing heavy before a body
runs.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.artifacts.steps import Step

# The label maps of an index by a parser, by its name.
Maps = Callable[[Step, str], Step]
PARSER = "schp-tiny"
