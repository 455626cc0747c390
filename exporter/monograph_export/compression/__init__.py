"""Make a loaded model smaller before it is traced, and measure what that costs it.

Every step replaces modules of the model by smaller ones that compute in torch what their graph will. So the graph is
still compared with torch, rounding for rounding, and the gate compares the smaller model with the original.
"""

from monograph_export.compression.compress import Compressed, Compression, check_asked, compress
from monograph_export.compression.gate import Agreement, Limits, agreement

__all__ = ["Agreement", "Compressed", "Compression", "Limits", "agreement", "check_asked", "compress"]
