"""What users would pick instead of monograph, measured beside it: each in an environment of its own."""

from monograph_bench.peers.catalog import PEERS, Peer
from monograph_bench.peers.environments import PeerError, environment_of, set_up
from monograph_bench.peers.systems import peer_systems

__all__ = ["PEERS", "Peer", "PeerError", "environment_of", "peer_systems", "set_up"]
