"""What one GPU does with the project: ``python -m benchmarks.gpu --out FILE``."""
