"""Task profiles: every task has one, and what they say of systems is what saved results have."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from monograph.errors import InputError
from monograph.tasks import task_names
from monograph_bench import eval_command
from monograph_bench.peers.catalog import PEERS
from monograph_bench.peers.systems import peer_systems
from monograph_bench.profiles import PROFILES, TaskProfile, profile_of
from monograph_bench.results import read_results

PROJECT = Path(__file__).parents[2]


def test_every_task_of_the_runtime_has_a_profile() -> None:
    assert PROFILES.keys() == set(task_names())
    with pytest.raises(InputError, match=r"^mine is of the task ranking, which this release neither measures nor eval"):
        profile_of("ranking", "mine")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_evaluations_are_options_of_the_command(profile: TaskProfile) -> None:
    parser = argparse.ArgumentParser()
    eval_command.configure(parser)
    assert profile.evaluations
    assert all(f"--{kind}" in parser.format_help() for kind in profile.evaluations)


def test_systems_are_called_as_saved_results_say(tmp_path: Path) -> None:
    usages = {
        system.name: system.usage
        for system in read_results(PROJECT / "benchmarks" / "results" / "minilm.json").systems
        if system.name in PEERS
    }
    systems, _ = peer_systems(usages, tmp_path, threads=1, home=tmp_path)
    assert systems
    assert all(system.usage == usages[system.name] for system in systems)
