"""What parsers train on: generated people, and datasets with label maps."""
