"""Check bundles on an NVIDIA GPU, and measure them beside sentence-transformers, in stages: ``python -m gpu_check``."""
