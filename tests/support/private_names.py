"""The names of other libraries that the package leans on although nobody promised them.

Each with the way to it, why no public one does, and what to do when it goes. `DOCUMENTED` are those that look private
and are not: their library explains them to those who extend it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import datasets
import torch
import transformers
from accelerate.utils.operations import ConvertOutputsToFp32
from sacrebleu.metrics import BLEU
from torch.nn.modules import module as torch_module
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, initialization, pipelines
from transformers.utils import output_capturing


@dataclass(frozen=True)
class PrivateName:
    """A name that is leaned on.

    Attributes:
        name: as it stands in the package.
        find: gives what it names; fails where the library has it no more.
        why: what it is used for, and why no public name serves.
        when_gone: what to do then.
        takes: parameters that it is called with, or is given, by name.
        since: the first version of transformers that has it; "" where all supported ones do.
    """

    name: str
    find: Callable[[], Any]
    why: str
    when_gone: str
    takes: tuple[str, ...] = ()
    since: str = ""


def _spoken_of(module: ModuleType, mark: str) -> bool:
    """Whether a module still marks objects by this name, which is nowhere but on them."""
    if mark not in inspect.getsource(module):
        raise AttributeError(f"{module.__name__} does not know {mark}")
    return True


def _mkldnn(name: str) -> Any:
    return getattr(torch.ops.mkldnn, name).default if torch.backends.mkldnn.is_available() else None


_MODULE_STATE = (
    "every call of `generate` waits for the walk that admits a model to the fast path; the public iterators leave out "
    "modules and weights that are None or there twice, and take several times as long"
)
_STATE_OF_MODULES = "read `vars(module)` as torch then keeps it, or decode all models by transformers' own search"
_HOOKS = "a hook may change what a module computes; torch has no public way to ask whether there is one"
_NO_HOOKS_KNOWN = "find torch's new place for hooks; until then `why_not_model` and `_is_plain_linear` must say no"
_CALLS = "a `__call__` or `forward` that somebody replaced computes something else"
_NEW_CALLS = "name the functions that `nn.Module.__call__` then goes through in `_OF_MODULES`"
_SAVING = "checkpoints are written beside their place and moved there whole; `on_save` comes when it is too late"
_STATISTICS = (
    "a thousand resamples of a corpus in seconds: sacreBLEU's public calls tokenise every sentence again for each, "
    "and give no bounds of an interval by percentiles"
)
_NEW_STATISTICS = "call `corpus_score` on each resample, or pin the last sacreBLEU that has it"

TRAINER = (
    PrivateName(
        "_run_epoch",
        lambda: Trainer._run_epoch,
        "a run resumed at its end must not take another step; callbacks are asked only after a step",
        "let `set_initial_training_values` give the epochs that are done already",
    ),
    PrivateName(
        "_determine_best_metric",
        lambda: Trainer._determine_best_metric,
        "with `save_strategy best` it overrules every callback, and a run that is stopped needs its checkpoint",
        "find where `control.should_save` is then decided, or refuse `best` together with signals",
        takes=("metrics", "trial"),
    ),
    PrivateName(
        "_get_grad_norm",
        lambda: Trainer._get_grad_norm,
        "the one place that knows the norm before the optimizer's step, which must not happen if it is not finite; "
        "`on_pre_optimizer_step` is given none",
        "compute the norm anew in `on_pre_optimizer_step`, at the cost of one more pass over the gradients",
        takes=("model", "grad_norm"),
    ),
    PrivateName(
        "_issue_warnings_after_load",
        lambda: Trainer._issue_warnings_after_load,
        "it calls tied weights missing, which are in no file by design",
        "take the override out: a resumed run then warns of weights that are there",
        takes=("load_result",),
    ),
    PrivateName(
        "_save_checkpoint", lambda: Trainer._save_checkpoint, _SAVING, "stage in `save_model`", ("model", "trial")
    ),
    PrivateName(
        "_get_output_dir",
        lambda: Trainer._get_output_dir,
        "where a checkpoint is written: else `args.output_dir` would have to change for a while, which is saved too",
        "change `args.output_dir` for that while, and write the right one into `training_args.json`",
        takes=("trial",),
    ),
    PrivateName(
        "_internal_call",
        lambda: Trainer.save_model,
        "without it `save_model` pushes what it wrote: a whole folder, in place of the files that `hub.push` chooses",
        "override `push_to_hub` alone, if `save_model` then calls it for users only",
        takes=("_internal_call",),
    ),
    PrivateName(
        "_push_from_checkpoint",
        lambda: Trainer._push_from_checkpoint,
        "it pushes from the staging folder before the checkpoint is whole",
        "take the override out once a checkpoint is pushed after `on_save`",
        takes=("checkpoint_folder",),
    ),
    PrivateName(
        "callback_handler",
        lambda: transformers.trainer_callback.CallbackHandler.on_push_begin,
        "our `push_to_hub` and `evaluate` tell callbacks what the Trainer's tell them",
        "call what the Trainer's own `evaluate` and `push_to_hub` then call",
    ),
)

TRANSFORMERS = (
    PrivateName(
        "_attn_implementation",
        lambda: PreTrainedConfig._attn_implementation,
        "which attention a model computes: documented to be read in a model's code, and set here on a copy of the "
        "config, since attention weights need eager attention for one call",
        "read what `set_attn_implementation` then sets",
    ),
    PrivateName(
        "_get_resized_lm_head",
        lambda: PreTrainedModel._get_resized_lm_head,
        "with separate vocabularies the output projection follows the target's embeddings, and "
        "`resize_token_embeddings` takes the source's",
        "make the larger `nn.Linear` here, its new rows from the mean of the old",
        takes=("old_lm_head", "new_num_tokens", "mean_resizing"),
    ),
    PrivateName(
        "_is_hf_initialized",
        lambda: _spoken_of(initialization, "_is_hf_initialized"),
        "a row of zeros for padding is written into new embeddings only, not into loaded ones; `init.zeros_` on a row "
        "cannot see the mark on the whole. transformers' own models read it likewise",
        "do as `PreTrainedModel._init_weights` then does for `padding_idx`",
    ),
    PrivateName(
        "output_capturing",
        lambda: output_capturing.maybe_install_capturing_hooks,
        "its hooks stay on a model after a call for attention weights and do nothing: they are known by their module",
        "take `_IDLE_HOOKS` out; then models that were asked for attention decode by transformers' own search",
    ),
    PrivateName(
        "_output_capturing_hooks_installed",
        lambda: _spoken_of(output_capturing, "_output_capturing_hooks_installed"),
        "`illustrate` takes those hooks off again, and without its mark a module would never get them back",
        "take `_hooks_taken_off` out; a model then keeps idle hooks, as after any call for attention",
    ),
    PrivateName(
        "REMOVED_TASKS",
        lambda: pipelines.REMOVED_TASKS,
        "`restore_translation_pipeline` gives version 4's task names back, which this table refuses",
        "nothing: the function then says that this version refuses the names in another way",
        since="5.20",
    ),
    PrivateName(
        "check_task",
        lambda: pipelines.PIPELINE_REGISTRY.check_task,
        "the same function lets `translation_xx_to_yy` through",
        "nothing: the function then says that this version refuses the names in another way",
        takes=("task",),
    ),
)

TORCH = (
    *(
        PrivateName(name, lambda name=name: vars(torch.nn.Linear(1, 1))[name], _MODULE_STATE, _STATE_OF_MODULES)
        for name in ("_modules", "_parameters", "_buffers")
    ),
    *(
        PrivateName(name, lambda name=name: vars(torch.nn.Linear(1, 1))[name], _HOOKS, _NO_HOOKS_KNOWN)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    ),
    *(
        PrivateName(name, lambda name=name: getattr(torch_module, name), _HOOKS, _NO_HOOKS_KNOWN)
        for name in ("_global_forward_hooks", "_global_forward_pre_hooks")
    ),
    *(
        PrivateName(name, lambda name=name: getattr(torch.nn.Module, name), _CALLS, _NEW_CALLS)
        for name in ("_call_impl", "_wrapped_call_impl", "_compiled_call_impl")
    ),
    PrivateName(
        "_C",
        lambda: torch._C,
        "the module of the next",
        "as the next",
    ),
    PrivateName(
        "_len_torch_dispatch_stack",
        lambda: torch._C._len_torch_dispatch_stack(),
        "a mode between calls of torch and what they do may change them; torch has no public way to ask for one",
        "ask torch's new way in `_by_surroundings`, or leave modes out of what is supported",
    ),
    PrivateName(
        "_get_current_function_mode_stack",
        lambda: torch.overrides._get_current_function_mode_stack(),
        "the same, of the other kind of modes; that of a default device is known and harmless",
        "ask torch's new way in `_by_surroundings`, or leave modes out of what is supported",
    ),
    PrivateName(
        "_linear_pointwise",
        lambda: _mkldnn("_linear_pointwise"),
        "half the time of a decoder's small products on a processor: oneDNN reads weights in its own order",
        "nothing: `_HAS_ONEDNN` is False then, and products are torch's own. See whether it has packed ones",
        takes=("X", "W", "B", "attr", "scalars", "algorithm"),
    ),
    PrivateName(
        "_reorder_linear_weight",
        lambda: _mkldnn("_reorder_linear_weight"),
        "it brings weights into that order",
        "as `_linear_pointwise`",
        takes=("self", "batch_size"),
    ),
)

OTHERS = (
    PrivateName(
        "model_forward",
        lambda: ConvertOutputsToFp32(len).model_forward,
        "accelerate wraps `forward` in autocast: only if its wrapper holds that and no more is the result known",
        "read the wrapper anew in `autocast_of`; until then such models decode by transformers' own search",
    ),
    PrivateName(
        "_indices",
        lambda: datasets.Dataset.from_dict({"a": [1]})._indices,
        "which rows a selection of a corpus has: lengths of 500,000 sentences in 0.05 s, and in 16 s by reading them",
        "read the rows in batches with `with_format('arrow').iter`",
    ),
    *(
        PrivateName(name, lambda name=name: getattr(BLEU(), name), _STATISTICS, _NEW_STATISTICS)
        for name in ("_extract_corpus_statistics", "_aggregate_and_compute", "_compute_score_from_stats")
    ),
)

PRIVATE_NAMES = (*TRAINER, *TRANSFORMERS, *TORCH, *OTHERS)


_OF_MODELS = "transformers: the comments on the class attributes of `PreTrainedModel`"
_OF_PIPELINES = "https://huggingface.co/docs/transformers/add_new_pipeline"
_FLAGS_OF_PIPELINES = "transformers: the comment on the class attributes of `Pipeline`"
_OF_METRICS = "https://huggingface.co/docs/evaluate/creating_and_sharing"
_OF_TUPLES = "https://docs.python.org/3/library/collections.html#collections.namedtuple"

DOCUMENTED = {
    "_init_weights": "https://huggingface.co/docs/transformers/add_new_model",
    "_no_split_modules": _OF_MODELS,
    "_skip_keys_device_placement": _OF_MODELS,
    "_supports_sdpa": _OF_MODELS,
    "_supports_flash_attn": _OF_MODELS,
    "_supports_flex_attn": _OF_MODELS,
    "_supports_attention_backend": "https://huggingface.co/docs/transformers/transformers_as_backend",
    "_can_compile_fullgraph": _OF_MODELS,
    "_can_record_outputs": "transformers: the docstring of `PreTrainedModel.can_record_outputs`",
    "_tied_weights_keys": _OF_MODELS,
    "_tp_plan": "https://huggingface.co/docs/transformers/perf_infer_gpu_multi",
    "_sanitize_parameters": _OF_PIPELINES,
    "_forward": _OF_PIPELINES,
    "_load_tokenizer": _FLAGS_OF_PIPELINES,
    "_load_processor": _FLAGS_OF_PIPELINES,
    "_load_image_processor": _FLAGS_OF_PIPELINES,
    "_load_video_processor": _FLAGS_OF_PIPELINES,
    "_load_feature_extractor": _FLAGS_OF_PIPELINES,
    "_fingerprint": "https://huggingface.co/docs/datasets/about_cache",
    "_info": _OF_METRICS,
    "_compute": _OF_METRICS,
    "_replace": _OF_TUPLES,
    "_asdict": _OF_TUPLES,
    "_exit": "https://docs.python.org/3/library/os.html#os._exit",
}
"""Where each is explained."""
