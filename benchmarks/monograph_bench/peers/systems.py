"""The peers that can be run on a checkpoint, as systems to measure, and why the others cannot."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from monograph.errors import MonographError
from monograph.progress import SILENT, Progress
from monograph.tasks.embedding import EMBEDDING
from monograph_bench.peers.catalog import Peer, peers_for
from monograph_bench.peers.environments import PeerError, default_home, find_peer, find_python
from monograph_bench.peers.exported_models import export_for_peers
from monograph_bench.profiles import PROFILES, TaskProfile
from monograph_bench.systems import PEER, System


def peer_systems(
    names: Iterable[str],
    checkpoint: Path,
    threads: int,
    home: Path | None = None,
    progress: Progress = SILENT,
    task: str = EMBEDDING.name,
) -> tuple[list[System], dict[str, str]]:
    """Return the peers that can be run on a checkpoint folder of a task, and by name the reason of each that cannot.

    A format of the checkpoint that a peer needs is exported here, once, as a step of ``progress``.

    Raises:
        PeerError: a name is not a peer's.

    """
    systems, reasons = [], {}
    profile, home = PROFILES[task], default_home() if home is None else home
    for peer in [find_peer(name) for name in dict.fromkeys(names)]:
        try:
            systems.append(_system(peer, profile, checkpoint, threads, home, progress))
        except MonographError as error:
            reasons[peer.name] = str(error)
    return systems, reasons


def _system(peer: Peer, profile: TaskProfile, checkpoint: Path, threads: int, home: Path, progress: Progress) -> System:
    measured = peers_for(profile.task.name)
    if peer.name not in measured:
        names = ", ".join(measured)
        raise PeerError(f"{peer.name} is not measured with {profile.models}: of the peers, {names} are")
    options: dict[str, object] = {}
    if peer.poolings is None:
        # It loads the modules of Sentence Transformers themselves, by a class of that.
        options |= profile.library_options
    folder = checkpoint
    if peer.exported is not None or peer.poolings is not None:
        # What no environment could help is said first.
        source = profile.export_source(checkpoint, peer)
        options |= source.options
        _check_program(peer)
        find_python(peer.name, home)
        if peer.exported is not None:
            folder = export_for_peers(peer.exported, source, home, progress)
    return System(
        name=peer.name,
        kind=PEER,
        python=find_python(peer.name, home),
        adapter=peer.adapter,
        options={"threads": threads, **peer.options, **options, "checkpoint": str(folder.resolve())},
        batch_sizes=peer.batch_sizes,
        usage=peer.usage.format(
            class_name=profile.library_class,
            method=profile.library_call.method,
            exported_part=profile.exported_part,
        ),
    )


def _check_program(peer: Peer) -> None:
    if peer.program is not None and shutil.which(peer.program) is None:
        raise PeerError(f"{peer.program} is not in PATH: install it to measure {peer.name}")
