"""Training parsers: SCHP's losses and self-correction cycles on the project's one loop."""
