"""CLIP's towers, as trunks, as text encoders and whole."""
