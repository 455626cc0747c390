"""What ``sentence_transformers.util`` has and this package has not, with what to do instead."""

from __future__ import annotations

_THEIRS = "it does not need the model: import it from sentence_transformers.util"
_TRAINING = f"it is for training: {_THEIRS.partition(': ')[2]}"
_TOKENS = "call similarity, similarity_pairwise or pad of a MultiVectorEncoder"
_TENSORS = "results are NumPy and SciPy arrays here, on no device"

ADVICE = {
    **dict.fromkeys(
        (
            "mine_hard_negatives",
            "check_teacher_targets",
            "append_to_last_row",
            "resolve_ids",
            "is_training_available",
            "is_accelerate_available",
            "is_datasets_available",
            "disable_datasets_caching",
        ),
        _TRAINING,
    ),
    **dict.fromkeys(
        (
            "maxsim",
            "maxsim_pairwise",
            "mean_maxsim",
            "mean_maxsim_pairwise",
            "cat_padded_token_embeddings",
            "stack_padded_token_embeddings",
            "repad_flattened_features",
        ),
        _TOKENS,
    ),
    **dict.fromkeys(("batch_to_device", "_move_tensors_to_cpu", "_convert_to_tensor"), _TENSORS),
    **dict.fromkeys(("_convert_to_batch", "_convert_to_batch_tensor"), f"{_TENSORS}: use numpy.atleast_2d"),
    **dict.fromkeys(
        (
            "all_gather",
            "all_gather_padded",
            "all_gather_with_grad",
            "get_rank",
            "get_world_size",
            "is_dist_initialized",
        ),
        "an engine uses every CPU of one process: use `monograph embed --workers` for several",
    ),
    "get_device_name": 'device="auto" takes the best device, and model.device names it',
    "select_max_active_dims": "give max_active_dims= to encode of a SparseEncoder",
    "to_scipy_coo": "a SparseEncoder gives SciPy's csr_array: call its tocoo()",
    "compute_count_vector": "use numpy.bincount of the token ids of a SparseEncoder's tokenizer",
    **dict.fromkeys(("is_sentence_transformer_model", "load_dir_path", "load_file_path"), _THEIRS),
    "similarity_fct_name": "see similarity_fn_name of the model",
    **dict.fromkeys(
        (
            "http_get",
            "disabled_tqdm",
            "LoggingHandler",
            "install_logger",
            "disable_logging",
            "fullname",
            "import_from_string",
            "import_module_class",
            "ORIGINAL_TRANSFORMER_MODELS",
            "check_package_availability",
            "check_version_requirements",
            "save_to_hub_args_decorator",
        ),
        _THEIRS,
    ),
}


def explain(name: str) -> str:
    """Return the message of the AttributeError of a name that ``monograph.util`` does not have."""
    if name in ADVICE:
        return f"monograph.util has no {name!r}: {ADVICE[name]}"
    return f"module 'monograph.util' has no attribute {name!r}"
