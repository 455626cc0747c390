"""Export a checkpoint as transformers.js reads it, at int8: python javascript/scripts/peer_model.py CHECKPOINT.

Prints the folder, which has the file of the peer "transformers.js-q8" of `monograph bench`; needs the environment that
`monograph bench --setup-peers st-onnx-qint8` makes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from monograph_bench.peers.environments import default_home, find_peer
from monograph_bench.peers.exported_models import export_for_peers
from monograph_bench.profiles.embedding import EmbeddingProfile

PEER, EXPORTED = "transformers.js-q8", "onnx-qint8"


def main(checkpoint: Path) -> None:
    """Export the checkpoint unless it is cached, and print where it is."""
    source = EmbeddingProfile().export_source(checkpoint, find_peer(PEER))
    print(export_for_peers(EXPORTED, source, default_home()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
