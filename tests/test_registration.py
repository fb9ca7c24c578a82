"""Importing the package registers its models and its pipeline, whatever is imported first, and is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_process import FreshProcesses

import hf_vanilla_transformer
from hf_vanilla_transformer.registration import LIGHT

MODEL_ROOM = Path(hf_vanilla_transformer.__file__).parent / "model"
HEAVY = ("torch", "transformers", "tokenizers", "datasets", "numpy")


def test_the_import_and_the_light_modules_bring_in_nothing_heavy():
    lines = [f"import hf_vanilla_transformer.model.{name}" for name in sorted(LIGHT)]
    code = "\n".join(["import sys, hf_vanilla_transformer", *lines, f"print(sorted(set({HEAVY}) & set(sys.modules)))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_module_that_is_not_light_needs_torch_or_transformers():
    """So that the list is complete: what it lacks would cost seconds for nothing."""
    imports = {}
    for path in MODEL_ROOM.glob("*.py"):
        names = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                names.add(node.module if node.level else (node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
        imports[path.stem] = names
    heavy = {name for name, names in imports.items() if names & set(HEAVY)}
    while more := {name for name, names in imports.items() if names & heavy} - heavy:
        heavy |= more
    assert set(imports) - heavy - {"__init__"} == LIGHT


FIRST = {
    "the Auto classes": "from transformers import AutoModelForSeq2SeqLM",
    "a module of transformers that imports its Auto classes": "import transformers.generation.utils",
    "a public name": "from hf_vanilla_transformer import VanillaTransformerModel",
    "a module that the model imports": "import hf_vanilla_transformer.model.generation",
    "a module that imports the model": "import hf_vanilla_transformer.translation.loading",
    "pipelines": "from transformers.pipelines import pipeline",
    "the package's pipeline": "import hf_vanilla_transformer.model.pipeline",
    "every name": "from hf_vanilla_transformer import *",
}
CHECK = """
import hf_vanilla_transformer as package
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM
from transformers.pipelines import PIPELINE_REGISTRY
sizes = dict(vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
             decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8)
config = AutoConfig.for_model("vanilla_transformer", **sizes)
assert type(config) is package.VanillaTransformerConfig
assert type(AutoModel.from_config(config)) is package.VanillaTransformerModel
assert type(AutoModelForSeq2SeqLM.from_config(config)) is package.VanillaTransformerForConditionalGeneration
assert PIPELINE_REGISTRY.check_task("translate")[1]["impl"] is package.TranslationPipeline
for name, module in list(sys.modules.items()):
    if name.startswith("hf_vanilla_transformer."):
        parent, _, own = name.rpartition(".")
        assert getattr(sys.modules[parent], own) is module, name  # none was loaded twice
"""


def check(processes: FreshProcesses, code: str) -> None:
    begun = "import sys\nassert not {'transformers', 'hf_vanilla_transformer'} & set(sys.modules)"
    done = processes.run(f"{begun}\n{code}\n{CHECK}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_whatever_is_imported_first_all_is_registered(first: str, processes_with_torch: FreshProcesses):
    check(processes_with_torch, f"import hf_vanilla_transformer\n{first}")


@pytest.mark.slow
def test_what_was_imported_before_the_package_is_registered_by_it(processes_with_torch: FreshProcesses):
    check(processes_with_torch, "from transformers.pipelines import pipeline\nimport hf_vanilla_transformer")


@pytest.mark.slow
def test_another_finder_may_be_the_one_that_finds_transformers(processes_with_torch: FreshProcesses):
    """As of an editable installation, which Python's own finder does not know."""
    code = """
import sys, importlib.machinery
class Other:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.machinery.PathFinder.find_spec(name, hidden) if name == "transformers" else None
class Blind(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "transformers" else super().find_spec(name, path, target)
hidden = list(sys.path)
python = importlib.machinery.PathFinder
sys.meta_path[:] = [Blind if finder is python else finder for finder in sys.meta_path] + [Other]
import hf_vanilla_transformer
"""
    check(processes_with_torch, code)
