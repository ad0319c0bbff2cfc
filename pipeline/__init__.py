"""From a dataset manifest to cached artifacts: files and steps, no network architecture."""
