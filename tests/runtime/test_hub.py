"""Bundles on a Hub: a server on this machine answers, or fails, as a Hub does."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monograph import BundleError, Embedder
from monograph.bundle import open_bundle
from monograph.bundle.archive import unpack_bundle
from monograph.bundle.sources import locate_bundle
from support.command import NOT_MEASURED
from support.hub import Hub, Repository, environment, python, serve

NAME = "some-org/tiny"
# Prints what locate_bundle returns; an error that is not a BundleError shows as a traceback.
LOCATE = """
import sys
from monograph import BundleError
from monograph.bundle.sources import locate_bundle
try:
    print(locate_bundle(sys.argv[1]))
except BundleError as error:
    sys.exit(str(error))
"""
EMBED = """
import json, sys
from monograph import Embedder
from monograph.bundle.sources import locate_bundle
vectors = [Embedder(locate_bundle(source), device="cpu").encode("a boat") for source in sys.argv[1:]]
print(json.dumps([vector.tolist() for vector in vectors]))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def repository(hub: Hub, tiny_bundle: Path) -> Repository:
    return hub.add(NAME, tiny_bundle)


@pytest.fixture
def locate(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(source: str = NAME, **variables: str) -> subprocess.CompletedProcess[str]:
        return python(LOCATE, source, env=environment(hub, tmp_path, **variables))

    return run


Locate = Callable[..., subprocess.CompletedProcess[str]]


def path_of(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return Path(done.stdout.strip())


def assert_refused(done: subprocess.CompletedProcess[str], tmp_path: Path, *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    bundles = tmp_path / "monograph" / "bundles"
    assert not [path for path in bundles.rglob("*") if path.is_file()]


def test_a_bundle_on_a_hub_gives_the_vectors_of_the_folder(
    hub: Hub, repository: Repository, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = python(EMBED, NAME, tiny_bundle, env=environment(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    vectors = done.stdout.strip("[]\n").split("], [")
    assert vectors[0] == vectors[1]


def test_it_is_real_files_of_the_manifest_and_no_second_copy(
    repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    repository.files |= {"README.md": b"x", "model_int8.onnx": b"x" * 20_000}
    folder = path_of(locate())
    assert folder == tmp_path / "monograph" / "bundles" / "some-org--tiny" / repository.commit
    assert {path.name for path in folder.iterdir()} == set(open_bundle(folder, "full").manifest.files) | {
        "manifest.json"
    }
    assert (folder / "model.onnx.data").stat().st_nlink == 2
    downloaded = {path.name for path in (tmp_path / "huggingface").rglob("*")}
    assert not downloaded & {"README.md", "model_int8.onnx"}


def test_each_file_is_requested_once(hub: Hub, repository: Repository, locate: Locate) -> None:
    path_of(locate())
    assert len(hub.requests) == len(set(hub.requests)) <= 3 + 3 * len(repository.files)


def test_a_second_use_asks_for_the_commit_only_and_none_of_a_commit(
    hub: Hub, repository: Repository, locate: Locate
) -> None:
    folder = path_of(locate())
    hub.requests.clear()
    assert path_of(locate()) == folder
    assert hub.requests == [("GET", f"/api/models/{NAME}")]
    assert path_of(locate(f"{NAME}@{repository.commit}")) == folder
    assert len(hub.requests) == 1


@pytest.mark.parametrize("how", ["offline", "refused", "silent"])
def test_what_is_in_the_cache_is_used_without_a_hub(
    how: str, hub: Hub, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    folder = path_of(locate())
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    repository.silent = how == "silent"
    variables = {"offline": {"HF_HUB_OFFLINE": "1"}, "refused": {"HF_ENDPOINT": "http://127.0.0.1:9"}, "silent": {}}[
        how
    ]
    hub.requests.clear()
    assert path_of(locate(**variables)) == folder
    assert len(hub.requests) == (how == "silent")
    open_bundle(folder, "full")


def in_place(path: Path, size: int) -> None:
    """Cut a file short without a new inode: huggingface_hub's cache has the same file by another name."""
    with path.open("r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("files", ["model.onnx.data", "manifest.json", "*"])
@pytest.mark.parametrize("how", ["cut short", "removed"])
def test_a_damaged_bundle_in_the_cache_is_downloaded_again(
    how: str, files: str, repository: Repository, locate: Locate
) -> None:
    folder = path_of(locate())
    for path in list(folder.glob(files)):
        if how == "removed":
            path.unlink()
        else:
            in_place(path, 5)
    assert path_of(locate()) == folder
    open_bundle(folder, "full")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_damaged_bundle_that_cannot_be_downloaded_again_names_its_folder(
    repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    folder = path_of(locate())
    in_place(folder / "model.onnx.data", 5000)
    done = locate(f"{NAME}@{repository.commit}", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    for words in (f"{folder} is damaged (model.onnx.data has 5,000 bytes", "remove that folder", "HF_HUB_OFFLINE"):
        assert words in done.stderr
    assert path_of(locate()) == folder
    open_bundle(folder, "full")


def test_what_a_killed_download_left_is_removed(repository: Repository, locate: Locate, tmp_path: Path) -> None:
    place = tmp_path / "monograph" / "bundles" / "some-org--tiny"
    place.mkdir(parents=True)
    code = f"""
import os, signal
from pathlib import Path
from monograph.atomic import atomic_folder
with atomic_folder(Path({str(place)!r}) / "{"0" * 40}") as folder:
    (folder / "model.onnx.data").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(place.iterdir())) == 1
    path_of(locate())
    assert [path.name for path in place.iterdir()] == [repository.commit]


def test_a_bundle_that_others_may_write_is_downloaded_again(repository: Repository, locate: Locate) -> None:
    folder = path_of(locate())
    folder.chmod(0o770)
    (folder / "more").write_bytes(b"")
    assert path_of(locate()) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not (folder / "more").exists()


def test_a_bundle_is_packed_by_its_name(hub: Hub, repository: Repository, tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monograph", "pack", "--quiet", NAME, str(tmp_path / "tiny.tar")]
    done = subprocess.run(command, env=environment(hub, tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    folder = unpack_bundle(tmp_path / "tiny.tar", tmp_path / "there")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in tiny_bundle.iterdir()
    }


def test_a_new_commit_is_downloaded_beside_the_old(repository: Repository, locate: Locate) -> None:
    first = path_of(locate())
    repository.files["README.md"] = b"changed"
    second = path_of(locate())
    assert first != second
    assert open_bundle(first).manifest == open_bundle(second).manifest


def test_the_token_is_sent_to_the_hub_and_not_to_the_storage(hub: Hub, repository: Repository, locate: Locate) -> None:
    path_of(locate(HF_TOKEN="hf_a_secret"))
    assert hub.tokens == {("api", "Bearer hf_a_secret"), ("some-org", "Bearer hf_a_secret"), ("storage", None)}


REFUSED: dict[str, tuple[tuple[int, str | None], tuple[str, ...]]] = {
    "401": ((401, None), ("HF_TOKEN", "hf auth login")),
    "gated": ((403, "GatedRepo"), ("gated", "HF_TOKEN", "hf auth login")),
    "403": ((403, None), ("403", "HF_TOKEN", "hf auth login")),
    "too many requests": ((429, None), ("429", "later")),
    "a broken Hub": ((500, None), ("500", "later")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hub_that_refuses_is_one_request_and_one_line(
    name: str, hub: Hub, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    repository.refused, words = REFUSED[name]
    assert_refused(locate(), tmp_path, NAME, *words)
    assert len(hub.requests) == 1


@pytest.mark.parametrize("token", ["", "hf_a_secret"])
def test_a_missing_repository_is_refused_as_such(hub: Hub, locate: Locate, tmp_path: Path, token: str) -> None:
    done = locate("some-org/absent", HF_TOKEN=token)
    start = "bundle some-org/absent: there is no folder some-org/absent; as a repository on the Hub: "
    assert done.stderr.startswith(start)
    assert_refused(done, tmp_path, "no repository some-org/absent", "check the name", "HF_TOKEN", "monograph export")
    assert len(hub.requests) == 1


def test_a_revision_that_is_not_there_is_named(
    hub: Hub, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    assert_refused(locate(f"{NAME}@v9"), tmp_path, f"{NAME}@v9", "no such revision")
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("fault", "file"),
    [
        ("cut short", "manifest.json"),
        pytest.param("cut short", "model.onnx.data", marks=pytest.mark.slow),
        pytest.param("stalled", "manifest.json", marks=pytest.mark.slow),
        ("stalled", "model.onnx.data"),
    ],
)
def test_a_file_that_breaks_off_is_requested_twice(
    fault: str, file: str, hub: Hub, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    repository.faults[file] = fault
    assert_refused(locate(), tmp_path, NAME, "cannot be downloaded", file, "try again")
    assert len([method for method, path in hub.requests if method == "GET" and path.endswith(file)]) <= 3
    repository.faults.clear()
    open_bundle(path_of(locate()), "full")


@pytest.mark.parametrize("file", ["manifest.json", "model.onnx.data"])
def test_a_file_of_other_content_is_removed_and_downloaded_again(
    file: str, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    repository.faults[file] = "changed"
    for _ in range(2):
        assert_refused(locate(), tmp_path, file, "damaged", "try again")
    repository.faults.clear()
    open_bundle(path_of(locate()), "full")


def test_nobody_at_the_endpoint_is_one_line(hub: Hub, locate: Locate, tmp_path: Path) -> None:
    assert_refused(locate(HF_ENDPOINT="http://127.0.0.1:9"), tmp_path, "127.0.0.1:9", "refused", "HF_ENDPOINT")
    done = locate(f"{NAME}@{'0' * 40}", HF_ENDPOINT="http://127.0.0.1:9")
    assert_refused(done, tmp_path, "127.0.0.1:9", "refused", "HF_ENDPOINT")


@pytest.mark.parametrize("source", [NAME, f"{NAME}@{'0' * 40}"])
def test_a_hub_that_never_answers_gets_one_request(
    source: str, hub: Hub, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    repository.silent = True
    started = time.monotonic()
    assert_refused(locate(source), tmp_path, NAME, "timed out", "check the connection")
    assert time.monotonic() - started < 30
    assert len(hub.requests) == 1


def test_offline_without_the_bundle_says_which_variable(hub: Hub, locate: Locate, tmp_path: Path) -> None:
    assert_refused(locate(HF_HUB_OFFLINE="1"), tmp_path, NAME, "not completely in the cache", "HF_HUB_OFFLINE")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sub/file", "a\\b"])
def test_a_manifest_that_lists_a_path_is_refused_before_it_is_used(
    name: str, hub: Hub, repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    manifest = json.loads(repository.files["manifest.json"])
    manifest["files"][name] = {"bytes": 20, "sha256": "0" * 64}
    repository.files["manifest.json"] = json.dumps(manifest).encode()
    repository.files["sub/file"] = b"not to be downloaded"
    assert_refused(locate(), tmp_path, "not a plain file name")
    assert {Path(path).name for method, path in hub.requests if method == "HEAD"} == {"manifest.json"}


def test_what_the_repository_lacks_is_named(repository: Repository, locate: Locate, tmp_path: Path) -> None:
    del repository.files["probes.json"]
    assert_refused(locate(), tmp_path, f"bundle {NAME}: probes.json is missing")
    del repository.files["manifest.json"]
    assert_refused(locate(), tmp_path, f"bundle {NAME}: the repository has no manifest.json")


def test_files_that_are_not_the_manifests_are_refused(repository: Repository, locate: Locate, tmp_path: Path) -> None:
    weights = bytearray(repository.files["model.onnx.data"])
    weights[100] ^= 1
    repository.files["model.onnx.data"] = bytes(weights)
    assert_refused(locate(), tmp_path, f"bundle {NAME}: model.onnx.data was changed")


def test_two_processes_at_once_both_succeed(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCATE, NAME]
    environ = environment(hub, tmp_path)
    running = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    (folder,) = map(Path, folders)
    open_bundle(folder, "full")
    assert [path.name for path in folder.parent.iterdir()] == [repository.commit]


def test_two_threads_at_once_both_succeed(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from monograph.bundle.sources import locate_bundle
with ThreadPoolExecutor(4) as pool:
    print(*set(pool.map(locate_bundle, [{NAME!r}] * 4)))
"""
    open_bundle(path_of(python(code, env=environment(hub, tmp_path))), "full")


def test_a_cache_that_cannot_be_written_says_what_to_set(
    repository: Repository, locate: Locate, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    done = locate(MONOGRAPH_CACHE=str(tmp_path / "file"))
    assert_refused(done, tmp_path, "cannot be written to", "cache_dir", "MONOGRAPH_CACHE")
    done = locate(HF_HOME=str(tmp_path / "file"))
    assert_refused(done, tmp_path, "cannot be stored", "HF_HOME")


def test_a_full_disk_is_one_line_and_leaves_nothing(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n" + LOCATE
    done = python(limited, NAME, env=environment(hub, tmp_path, **NOT_MEASURED))
    assert_refused(done, tmp_path, "cannot be stored", "File too large", "HF_HOME")
    assert not list(tmp_path.rglob("*.incomplete"))


def test_without_huggingface_hub_the_extra_is_named(hub: Hub, locate: Locate, tmp_path: Path) -> None:
    (tmp_path / "stubs" / "huggingface_hub").mkdir(parents=True)
    (tmp_path / "stubs" / "huggingface_hub" / "__init__.py").write_text("raise ModuleNotFoundError(__name__)")
    done = locate(PYTHONPATH=str(tmp_path / "stubs"))
    assert done.stderr.startswith(f"bundle {NAME}: there is no folder {NAME}; as a repository on the Hub: ")
    assert_refused(done, tmp_path, "pip install 'monograph[hub]'", "monograph export")


@pytest.mark.parametrize("source", [None, 5, b"some-org/tiny"])
def test_what_is_no_path_is_a_bundle_error(source: Any) -> None:
    with pytest.raises(BundleError, match=f"must be a str or a path, got {type(source).__name__}"):
        Embedder(source)


def test_a_folder_of_that_name_wins_and_a_path_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="there is no such folder"):
        locate_bundle(Path(NAME))
    os.makedirs(NAME)  # noqa: PTH103
    assert locate_bundle(NAME) == Path(NAME)


def test_a_name_without_a_hub_is_a_bundle_error_in_this_process() -> None:
    """The tests run with HF_HUB_OFFLINE=1, and so does this call."""
    with pytest.raises(BundleError, match="there is no folder some-org/that-nobody-has"):
        locate_bundle("some-org/that-nobody-has")
