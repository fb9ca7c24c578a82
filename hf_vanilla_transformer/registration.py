"""Make the models known to the Auto classes and the translate pipeline to `pipeline()`, at no cost to those who wait.

`transformers.pipelines` takes a while to import, and many programs never do: the pipeline is registered when somebody
does. Stays at home: a repository on the Hub names its classes in its config.
"""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from .model.configuration_vanilla_transformer import VanillaTransformerConfig
from .model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerModel

PIPELINES = "transformers.pipelines"
TASK = "translate"


def register() -> None:
    """Register all there is; again does no harm."""
    AutoConfig.register("vanilla_transformer", VanillaTransformerConfig, exist_ok=True)
    AutoModel.register(VanillaTransformerConfig, VanillaTransformerModel, exist_ok=True)
    AutoModelForSeq2SeqLM.register(VanillaTransformerConfig, VanillaTransformerForConditionalGeneration, exist_ok=True)
    VanillaTransformerConfig.register_for_auto_class()
    VanillaTransformerModel.register_for_auto_class("AutoModel")
    VanillaTransformerForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
    VanillaTransformerConfig.custom_pipelines = property(_pipelines_to_download, _keep_pipelines)  # type: ignore[attr-defined]
    if PIPELINES in sys.modules:
        register_pipeline()
    elif not any(isinstance(finder, PipelinesFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PipelinesFinder())


def register_pipeline() -> None:
    """Make `pipeline("translate", model=...)` work."""
    import_module(".model.pipeline", __package__)  # registers itself, at the end if it is being imported already


class PipelinesFinder(MetaPathFinder):
    """Finds `transformers.pipelines` where Python would, and registers our pipeline once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == PIPELINES else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register_pipeline()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _pipelines_to_download(config: VanillaTransformerConfig) -> dict[str, Any]:
    """The pipelines of a model's repository but for `translate`, which the installed package is trusted to have."""
    saved = vars(config).get("custom_pipelines") or {}
    return {task: pipeline for task, pipeline in saved.items() if task != TASK}


def _keep_pipelines(config: VanillaTransformerConfig, pipelines: dict[str, Any]) -> None:
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
