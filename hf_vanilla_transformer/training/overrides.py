"""Consequences of command-line overrides for other settings.

The settings of a recipe are consistent. An override also changes the settings that depend on it, and each such change
is reported.
"""

from dataclasses import fields
from typing import Any

from .arguments import CHANGEABLE, DecodingArguments, ModelArguments, TokenizerArguments
from .languages import is_text_replaced, require_validation_of_the_pair, settle_languages


def settle(recipe: dict[str, Any], explicit: dict[str, Any], is_own: bool = False) -> tuple[list[str], bool]:
    """Change the recipe's settings where an option contradicts them.

    Args:
        recipe: settings of the recipe, changed in place.
        explicit: the given options, by name.
        is_own: whether the recipe is the run's own record; its languages hold even if the text has moved.

    Returns:
        A message for each change, and whether the text must have columns named by the languages.

    Raises:
        ValueError: the sides of the validation text are swapped.
    """
    notes: list[str] = []
    claimed = recipe.get("source_lang"), recipe.get("target_lang")
    is_replaced = is_text_replaced(recipe, explicit) and not is_own
    _settle_model(recipe, explicit, notes)
    _settle_data(recipe, explicit, notes)
    of_languages, languages_name_columns = settle_languages(recipe, explicit, claimed, is_replaced)
    notes += of_languages
    require_validation_of_the_pair({**recipe, **explicit})
    _settle_duration(recipe, explicit, notes)
    for what in ("save", "eval"):
        steps, strategy = f"{what}_steps", f"{what}_strategy"
        if steps in explicit and strategy not in explicit and recipe.get(strategy, "no") != "steps":
            recipe[strategy] = "steps"
            notes.append(f"--{steps} means {strategy} steps.")
    _settle_best_model(recipe, explicit, notes)
    return notes, languages_name_columns


def _settle_model(recipe: dict[str, Any], explicit: dict[str, Any], notes: list[str]) -> None:
    if "init_from" not in explicit:
        return
    groups = (ModelArguments, TokenizerArguments, DecodingArguments)
    own = {field.name for group in groups for field in fields(group)} - CHANGEABLE
    dropped = [name for name in recipe if name in own]
    for name in dropped:
        del recipe[name]
    if dropped:
        notes.append(f"--init_from keeps the saved model's own {', '.join(dropped)} instead of the recipe's.")


def _settle_data(recipe: dict[str, Any], explicit: dict[str, Any], notes: list[str]) -> None:
    def drop(*names: str) -> list[str]:
        dropped = [name for name in names if name in recipe and name not in explicit]
        return [name for name in dropped if recipe.pop(name) is not None]

    if "train_source" in explicit and "dataset_name" not in explicit and recipe.get("dataset_name"):
        dropped = drop("dataset_name", "dataset_config_name", "train_split", "validation_split")
        notes.append(f"--train_source takes the place of the recipe's {', '.join(dropped)}.")
    if "dataset_name" in explicit and "train_source" not in explicit:
        if drop("train_source", "train_target", "validation_source", "validation_target"):
            notes.append("--dataset_name takes the place of the recipe's files.")
        if explicit["dataset_name"] != recipe.get("dataset_name") and drop("dataset_config_name"):
            notes.append("--dataset_name takes the place of the recipe's dataset_config_name.")


def _settle_duration(recipe: dict[str, Any], explicit: dict[str, Any], notes: list[str]) -> None:
    if "num_train_epochs" in explicit and "max_steps" not in explicit and recipe.pop("max_steps", -1) > 0:
        notes.append("--num_train_epochs takes the place of the recipe's max_steps.")
    if "max_steps" in explicit and "num_train_epochs" not in explicit and recipe.pop("num_train_epochs", None):
        notes.append("--max_steps takes the place of the recipe's num_train_epochs.")


_TRAINER_DEFAULTS = {"eval_strategy": "no", "save_strategy": "steps", "save_steps": 500, "eval_steps": 500}


def _settle_best_model(recipe: dict[str, Any], explicit: dict[str, Any], notes: list[str]) -> None:
    """Keeping the best checkpoint needs an evaluation at every save."""
    if "load_best_model_at_end" in explicit or not recipe.get("load_best_model_at_end"):
        return

    def value(name: str) -> str:
        given = explicit.get(name, recipe.get(name, _TRAINER_DEFAULTS[name]))
        return "no" if given is False else str(given)  # YAML reads a bare no as False

    reason = None
    if value("eval_strategy") == "no":
        reason = "without evaluation"
    elif value("eval_strategy") != value("save_strategy"):
        reason = f"when saving by {value('save_strategy')} and evaluating by {value('eval_strategy')}"
    elif value("eval_strategy") == "steps" and _not_multiple(value("save_steps"), value("eval_steps")):
        reason = f"when {value('save_steps')} save_steps are not a multiple of {value('eval_steps')} eval_steps"
    if reason:
        recipe["load_best_model_at_end"] = False
        notes.append(f"The best checkpoint is not kept {reason}; the last one is.")


def _not_multiple(save_steps: str, eval_steps: str) -> bool:
    try:
        return float(save_steps) % float(eval_steps) != 0
    except (ValueError, ZeroDivisionError):
        return False  # the Trainer reports invalid values
