"""How many CPUs a process may use, by cgroup and by affinity mask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monograph import cpu
from monograph.cpu import available_cpus, cgroup_cpu_quota


class Cgroups:
    """A made-up cgroup tree and what /proc says of the process's place in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.own = folder / "own"
        self.root.mkdir()

    def quota(self, own: str) -> float | None:
        self.own.write_text(own)
        return cgroup_cpu_quota(self.root, self.own)

    def v2(self, group: str, content: str) -> None:
        self._write(group, "cpu.max", content)

    def v1(self, group: str, quota: str, period: str = "100000\n") -> None:
        self._write(group, "cpu.cfs_quota_us", quota)
        self._write(group, "cpu.cfs_period_us", period)

    def _write(self, group: str, name: str, content: str) -> None:
        folder = self.root / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture
def cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("6400000 100000\n", 64),
        ("", None),
        ("abc 100000", None),
        ("100000 0", None),
    ],
)
def test_version_2_is_read(cgroups: Cgroups, content: str, expected: float | None) -> None:
    cgroups.v2("job", content)
    assert cgroups.quota("0::/job\n") == expected


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("200000 100000", "400000 100000", 2),
        ("400000 100000", "200000 100000", 2),
        ("max 100000", "300000 100000", 3),
        ("300000 100000", "max 100000", 3),
        ("100000 50000", "150000 100000", 1.5),
        ("max 100000", "max 100000", None),
    ],
)
def test_the_tightest_group_on_the_way_up_counts(
    cgroups: Cgroups, outer: str, inner: str, expected: float | None
) -> None:
    cgroups.v2("slice", outer)
    cgroups.v2("slice/middle/job", inner)
    assert cgroups.quota("0::/slice/middle/job\n") == expected


def test_a_group_beside_the_own_one_does_not_count(cgroups: Cgroups) -> None:
    cgroups.v2("slice/job", "300000 100000")
    cgroups.v2("slice/other", "100000 100000")
    assert cgroups.quota("0::/slice/job\n") == 3


@pytest.mark.parametrize("own", ["0::/\n", "0::/docker/0123abcd\n", "0::/../..\n"])
def test_a_container_s_group_that_is_mounted_as_the_root_is_read(cgroups: Cgroups, own: str) -> None:
    cgroups.v2("", "250000 100000\n")
    assert cgroups.quota(own) == 2.5


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(
    ("quota", "expected"), [("250000\n", 2.5), ("-1\n", None), ("0\n", None), ("not a number\n", None)]
)
def test_version_1_is_read(cgroups: Cgroups, mount: str, quota: str, expected: float | None) -> None:
    cgroups.v1(f"{mount}/job", quota)
    assert cgroups.quota("12:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n") == expected


def test_version_1_takes_the_tightest_group_too(cgroups: Cgroups) -> None:
    cgroups.v1("cpu", "-1\n")
    cgroups.v1("cpu/slice", "150000\n")
    cgroups.v1("cpu/slice/job", "800000\n", "200000\n")
    assert cgroups.quota("3:cpu:/slice/job\n") == 1.5


def test_a_controller_whose_name_only_begins_with_cpu_is_another_one(cgroups: Cgroups) -> None:
    cgroups.v1("cpuset/job", "100000\n")
    assert cgroups.quota("5:cpuset:/job\n4:cpuacct:/job\n") is None


def test_both_versions_at_once_give_the_tighter(cgroups: Cgroups) -> None:
    cgroups.v1("cpu/job", "300000\n")
    cgroups.v2("job", "200000 100000\n")
    assert cgroups.quota("4:cpu:/job\n0::/job\n") == 2


def test_a_path_with_colons_is_read_whole(cgroups: Cgroups) -> None:
    cgroups.v2("unit:a:b", "100000 100000\n")
    assert cgroups.quota("0::/unit:a:b\n") == 1


@pytest.mark.parametrize("own", ["", "0::/job\n", "4:cpu:/job\n"])
def test_groups_without_a_quota_file_are_unlimited(cgroups: Cgroups, own: str) -> None:
    assert cgroups.quota(own) is None


def test_a_system_without_cgroups_is_unlimited(tmp_path: Path) -> None:
    assert cgroup_cpu_quota(tmp_path, tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("mask", "quota", "expected"),
    [(4, None, 4), (4, 1.5, 2), (4, 2.0, 2), (4, 0.25, 1), (4, 0.0, 1), (2, 64.0, 2), (1, 1.5, 1)],
)
def test_mask_and_quota_together_allow_the_lesser_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, mask: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(mask)))
    monkeypatch.setattr(cpu, "cgroup_cpu_quota", lambda: quota)
    assert available_cpus() == expected


def test_this_process_may_use_no_more_than_its_mask() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))


def test_a_mask_of_one_cpu_leaves_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from monograph.cpu import available_cpus; print(available_cpus())"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "1"
