"""``clip-tiny`` and ``clip-tiny-vit``, which ship with the package."""
