"""Parsers behind one interface: weights found and checked, images warped, maps made."""
