"""Make the models known to the Auto classes and the translate pipeline to `pipeline()`, at no cost to those who wait.

`transformers` and torch take seconds to import, and a command that only prints its help needs neither. So what is
registered with `transformers` is registered at once where it is imported already, and else right after it is, before
the program that imports it goes on; the same goes for `transformers.pipelines`, which many programs never import.
Stays at home: a repository on the Hub names its classes in its config.
"""

import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import starting

if TYPE_CHECKING:
    from .model.configuration_vanilla_transformer import VanillaTransformerConfig

TRANSFORMERS, PIPELINES = "transformers", "transformers.pipelines"
TASK = "translate"
LIGHT = frozenset(
    (
        "disk_space",
        "hub_access",
        "json_files",
        "languages",
        "manifest",
        "saved_code",
        "setting_ranges",
        "sound_folders",
        "whole_folders",
    )
)
"""Modules of `model` that need neither torch nor `transformers`; whatever else is imported from there needs both."""


def register_with_transformers() -> None:
    """Register now what `transformers` has been imported for, and the rest when it is; again does no harm."""
    if not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())
    if TRANSFORMERS in sys.modules:
        register_models()
    if PIPELINES in sys.modules:
        register_pipeline()


def register_models() -> None:
    """Make `AutoConfig`, `AutoModel` and `AutoModelForSeq2SeqLM` know our classes, in saved folders too."""
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
    import_module(".model.pipeline", __package__)  # registers itself, at the end if it is being imported already


class _Watch(MetaPathFinder):
    """Finds what the other finders find, and registers right after `transformers` or its pipelines are imported.

    The models' own modules import `transformers`, whose registration imports them. They are therefore loaded after it,
    so that none of them is found half-way through its own import.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in _REGISTER_AFTER:
            spec = self._found_by_others(fullname, path, target)
            if spec is not None and spec.loader is not None:
                _run_after(spec, _REGISTER_AFTER[fullname])
            return spec
        room, _, name = fullname.rpartition(".")
        if room == f"{__package__}.model" and name not in LIGHT and TRANSFORMERS not in sys.modules:
            spec = self._found_by_others(fullname, path, target)
            if spec is not None and spec.loader is not None:
                _load_after_transformers(spec)
            return spec
        return None

    def _found_by_others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """By any finder: `transformers` may be an editable installation, which has one of its own."""
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if not isinstance(finder, _Watch) and find is not None:
                spec = find(fullname, path, target)
                if spec is not None:
                    return spec
        return None


_REGISTER_AFTER: dict[str, Callable[[], None]] = {TRANSFORMERS: register_models, PIPELINES: register_pipeline}


def _run_after(spec: ModuleSpec, register: Callable[[], None]) -> None:
    """Let the import of a module end with a registration, in the same thread and before another sees the module."""
    loader: Any = spec.loader
    execute = loader.exec_module

    def execute_and_register(module: ModuleType) -> None:
        with starting.importing():
            execute(module)
        register()

    loader.exec_module = execute_and_register


def _load_after_transformers(spec: ModuleSpec) -> None:
    """Let `transformers` be imported first; its registration imports the module, too, and that one is taken."""
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
    """The pipelines of a model's repository but for `translate`, which the installed package is trusted to have."""
    saved = vars(config).get("custom_pipelines") or {}
    return {task: pipeline for task, pipeline in saved.items() if task != TASK}


def _keep_pipelines(config: "VanillaTransformerConfig", pipelines: dict[str, Any]) -> None:
    vars(config)["custom_pipelines"] = pipelines  # and `save_pretrained` writes them all


def restore_translation_pipeline() -> None:
    """Give `pipeline` back the names of version 4, `"translation"` and `"translation_en_to_fr"`, for this process.

    `transformers` 5 refuses these names before it looks at what is registered: this changes a private table of it.

    Raises:
        RuntimeError: this version of `transformers` refuses them in another way.
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
