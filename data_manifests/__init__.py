"""One YAML file per dataset: data, no code."""
