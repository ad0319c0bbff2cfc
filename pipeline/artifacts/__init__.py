"""Steps, their artifacts on disk, and the graph that makes what is missing."""
