"""One module per checkpoint format; each ``read`` takes a state dict apart into ``Imported``."""
