"""What users would pick instead of monograph, measured beside it: each in an environment of its own."""

from monograph_bench.peers.catalog import PEERS, Call, Peer, peers_of
from monograph_bench.peers.environments import PeerError, environment_of, set_up
from monograph_bench.peers.systems import peer_systems

__all__ = ["PEERS", "Call", "Peer", "PeerError", "environment_of", "peer_systems", "peers_of", "set_up"]
