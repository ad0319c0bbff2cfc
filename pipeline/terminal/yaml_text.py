"""YAML that people write: manifests, recipes, values of options."""

from __future__ import annotations

from typing import Any

import yaml

# libyaml reads ten times faster; some builds of PyYAML lack it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """The plain value of a YAML document, as ``yaml.safe_load`` has it. Raises yaml.YAMLError."""
    loader = _SafeLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
