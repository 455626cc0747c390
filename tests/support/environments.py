"""Environments that a program may be started in, and that must not change what is computed."""

from __future__ import annotations

from collections.abc import Mapping

# What is set, by a name; "" stands for an empty variable, and None for one that is removed.
Environment = Mapping[str, str | None]

# Those that change how threads are made, which is what hangs or crashes.
OF_THREADS: tuple[Environment, ...] = (
    *({"TOKENIZERS_PARALLELISM": value} for value in ("true", "false", "1", "0", "", "abc")),
    *({"OMP_NUM_THREADS": value} for value in ("0", "-1", "abc", "1", "100000")),
    {"OMP_WAIT_POLICY": "ACTIVE", "OMP_PROC_BIND": "true", "OMP_DYNAMIC": "true"},
    {"KMP_AFFINITY": "compact", "KMP_BLOCKTIME": "infinite", "KMP_DUPLICATE_LIB_OK": "FALSE"},
    {"OPENBLAS_NUM_THREADS": "0", "MKL_NUM_THREADS": "abc", "MKL_DYNAMIC": "maybe"},
    {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "true"},
    {"RAYON_NUM_THREADS": "64", "RAYON_RS_NUM_CPUS": "-3"},
    {"RAYON_NUM_THREADS": "abc"},
)
OF_LIBRARIES: tuple[Environment, ...] = (
    {"ORT_DISABLE_TELEMETRY": "0", "ORT_LOGGING_LEVEL": "0"},
    {"OPENVINO_LOG_LEVEL": "5", "OV_CACHE_DIR": "/nonexistent", "OV_CPU_DEBUG": "1"},
    {"ONEDNN_VERBOSE": "1", "DNNL_VERBOSE": "2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    {"ONEDNN_MAX_CPU_ISA": "nonsense", "ONEDNN_JIT_DUMP": "0"},
    {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent/\x01", "HF_ENDPOINT": "not a url"},
    {"TQDM_DISABLE": "1", "TQDM_MININTERVAL": "0", "COLUMNS": "1", "LINES": "0"},
    {"TQDM_NCOLS": "-5", "COLUMNS": "many"},
    {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1", "MALLOC_PERTURB_": "165", "MALLOC_CHECK_": "3"},
)
OF_FOLDERS: tuple[Environment, ...] = (
    {"HOME": None, "XDG_CACHE_HOME": None, "MONOGRAPH_CACHE": None},
    {"HOME": "", "MONOGRAPH_CACHE": ""},
    {"HOME": "relative", "XDG_CACHE_HOME": "relative", "MONOGRAPH_CACHE": None},
    {"MONOGRAPH_CACHE": "/dev/null/cache"},
    {"XDG_CACHE_HOME": "/proc/self", "MONOGRAPH_CACHE": None},
    {"TMPDIR": "/nonexistent", "TEMP": "/nonexistent", "TMP": "/nonexistent"},
)
OF_PYTHON: tuple[Environment, ...] = (
    {"PYTHONWARNINGS": "error"},
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONHASHSEED": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONUTF8": "0", "LC_ALL": "C"},
    {"PYTHONDEVMODE": "1"},
    {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
    {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"},
    {"PYTHONMALLOC": "debug"},
)
OF_LOCALES: tuple[Environment, ...] = (
    {"LANG": "C", "LC_ALL": "C"},
    {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"},
    {"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"},
    {"LC_ALL": "nonsense", "LANGUAGE": "xx"},
)
ALL = (*OF_THREADS, *OF_LIBRARIES, *OF_FOLDERS, *OF_PYTHON, *OF_LOCALES)


def is_refused(environment: Environment, device: str) -> bool:
    """Return whether a device does not run in an environment."""
    return device == "openvino" and "ONEDNN_VERBOSE" in environment


def name_of(environment: Environment) -> str:
    """Return a test's name."""
    return " ".join(f"{name}={value}" for name, value in environment.items())


def applied(environment: Environment, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of ``base`` with those of an environment."""
    merged = {**base, **environment}
    return {name: value for name, value in merged.items() if value is not None}
