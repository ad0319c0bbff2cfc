"""From packed pixels, index rows and label maps to batches."""
