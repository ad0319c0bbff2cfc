"""A dataset on disk to its index: find, fetch, unpack, read, check."""
