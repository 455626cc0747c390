"""What models of sentence-transformers have and a bundle has not, with what to do instead."""

from __future__ import annotations

_TRAINING = "a bundle is for inference: train the checkpoint with sentence-transformers, and export it again"
_SAVING = "a bundle is saved already: copy its folder, or pack it with `monograph pack`"
_PUBLISHING = "`monograph publish BUNDLE --checkpoint SOURCE --to ORG/NAME` uploads it for every loader"
_DTYPE = "it computes in the type that it was opened with: compute_dtype="
_TORCH = "there is no torch model here: use sentence-transformers where you need its modules"

ADVICE = {
    **dict.fromkeys(("fit", "gradient_checkpointing_enable", "old_fit"), _TRAINING),
    **dict.fromkeys(("save", "save_pretrained"), f"{_SAVING}; {_PUBLISHING}"),
    **dict.fromkeys(("push_to_hub", "save_to_hub"), _PUBLISHING),
    "merge": _TRAINING,
    "to": "open the bundle there, with device",
    "half": f'{_DTYPE}"float16" on a GPU, or export with --precision fp16',
    "bfloat16": f'{_DTYPE}"bfloat16"',
    **dict.fromkeys(("float", "double"), f'{_DTYPE}"float32"'),
    "dtype": "see compute_dtype",
    **dict.fromkeys(("forward", "parameters", "named_parameters", "state_dict", "transformers_model"), _TORCH),
    **dict.fromkeys(("modules", "children", "named_modules", "named_children", "register_forward_hook"), _TORCH),
    **dict.fromkeys(("config", "auto_model", "processor", "model", "get_model_kwargs"), _TORCH),
    "default_activation_function": "its name is activation_fn",
    "encode_multi_process": "call encode, which uses every CPU",
}
