"""Register the models with the Auto classes and the translate pipeline with `pipeline()`, without importing torch.

`transformers` and torch take seconds to import, and a command that only prints its help needs neither. So registration
happens immediately if `transformers` is already imported, otherwise right after its import, before the importing
program continues. `transformers.pipelines`, which many programs never import, is handled in the same way. This module
is not saved with models: a repository on the Hub names its classes in its config.
"""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import starting
from .import_hooks import ImportHook

if TYPE_CHECKING:
    from .model.configuration_vanilla_transformer import VanillaTransformerConfig

TRANSFORMERS, PIPELINES = "transformers", "transformers.pipelines"
TASK = "translate"
LIGHT = frozenset(
    (
        "disk_space",
        "json_files",
        "languages",
        "manifest",
        "saved_code",
        "setting_ranges",
        "sound_folders",
        "whole_folders",
    )
)
"""Modules of `model` that need neither torch nor `transformers`; all other modules there need both."""


def register_with_transformers() -> None:
    """Register now what can be registered, and the rest once `transformers` is imported; safe to call repeatedly."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())
    if TRANSFORMERS in sys.modules:
        register_models()
    if PIPELINES in sys.modules:
        register_pipeline()


def register_models() -> None:
    """Register our classes with `AutoConfig`, `AutoModel` and `AutoModelForSeq2SeqLM`, in saved folders too."""
    with starting.importing():
        from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

        from .model.configuration_vanilla_transformer import VanillaTransformerConfig
        from .model.modeling_vanilla_transformer import (
            VanillaTransformerForConditionalGeneration,
            VanillaTransformerModel,
        )

    AutoConfig.register("vanilla_transformer", VanillaTransformerConfig, exist_ok=True)
    AutoModel.register(VanillaTransformerConfig, VanillaTransformerModel, exist_ok=True)
    AutoModelForSeq2SeqLM.register(VanillaTransformerConfig, VanillaTransformerForConditionalGeneration, exist_ok=True)
    VanillaTransformerConfig.register_for_auto_class()
    VanillaTransformerModel.register_for_auto_class("AutoModel")
    VanillaTransformerForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
    VanillaTransformerConfig.custom_pipelines = property(_pipelines_to_download, _keep_pipelines)  # type: ignore[attr-defined]


def register_pipeline() -> None:
    """Make `pipeline("translate", model=...)` work."""
    import_module(".model.pipeline", __package__)  # registers itself, at the end of its import


class _Watch(ImportHook):
    """Registers right after `transformers` or its pipelines are imported.

    The models' own modules import `transformers`, and registration imports those modules. They are therefore loaded
    after `transformers`, so that none of them is used before its own import is complete.
    """

    def __init__(self) -> None:
        super().__init__({TRANSFORMERS: lambda _: register_models(), PIPELINES: lambda _: register_pipeline()})

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        room, _, name = fullname.rpartition(".")
        if room == f"{__package__}.model" and name not in LIGHT and TRANSFORMERS not in sys.modules:
            spec = self.found_by_others(fullname, path, target)
            if spec is not None and spec.loader is not None:
                _load_after_transformers(spec)
            return spec
        return super().find_spec(fullname, path, target)


def _load_after_transformers(spec: ModuleSpec) -> None:
    """Import `transformers` first; its registration imports the module too, and that import is used."""
    loader: Any = spec.loader
    create, execute = loader.create_module, loader.exec_module
    loaded: list[ModuleType] = []

    def create_module(spec: ModuleSpec) -> ModuleType | None:
        with starting.importing():
            import_module(TRANSFORMERS)
        if spec.name in sys.modules:
            loaded.append(sys.modules[spec.name])
            return loaded[0]
        return create(spec)

    def exec_module(module: ModuleType) -> None:
        if module not in loaded:
            execute(module)

    loader.create_module, loader.exec_module = create_module, exec_module


def _pipelines_to_download(config: "VanillaTransformerConfig") -> dict[str, Any]:
    """The pipelines of a model's repository except `translate`, for which the installed package is used."""
    saved = vars(config).get("custom_pipelines") or {}
    return {task: pipeline for task, pipeline in saved.items() if task != TASK}


def _keep_pipelines(config: "VanillaTransformerConfig", pipelines: dict[str, Any]) -> None:
    vars(config)["custom_pipelines"] = pipelines  # `save_pretrained` writes them all


def restore_translation_pipeline() -> None:
    """Make `pipeline` accept the names of version 4, `"translation"` and `"translation_en_to_fr"`, in this process.

    `transformers` 5 refuses these names before it looks at registered pipelines, so this changes one of its private
    tables.

    Raises:
        RuntimeError: this version of `transformers` refuses the names in another way.
    """
    from transformers import pipelines

    register_pipeline()
    registry = pipelines.PIPELINE_REGISTRY
    getattr(pipelines, "REMOVED_TASKS", {}).pop("translation", None)
    registry.supported_tasks["translation"] = registry.supported_tasks[TASK]
    known = registry.check_task

    def check_task(task: str) -> Any:
        return known("translation" if re.fullmatch(r"translation_\w+_to_\w+", task) else task)

    registry.check_task = check_task  # type: ignore[method-assign]
    try:
        for name in ("translation", "translation_en_to_fr"):
            pipelines.check_task(name)
    except KeyError as error:
        raise RuntimeError(
            'This version of transformers refuses the task "translation" in a way that this package does not know. '
            f'Use the task "{TASK}", which is the same.'
        ) from error
