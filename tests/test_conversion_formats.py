"""The tables of formats: each row is whole, and the commands, the documents and the errors follow from it."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.conversion import formats
from hf_vanilla_transformer.conversion.folders import convert_folder, export_folder
from hf_vanilla_transformer.conversion.formats import EXPORT_FORMATS, IMPORT_FORMATS, Format, FormatOption

TABLES = [("convert", "--from", IMPORT_FORMATS), ("export", "--to", EXPORT_FORMATS)]
ROWS = [(command, flag, row) for command, flag, table in TABLES for row in table.values()]
OTHER = FormatOption("letters", "which letters", "KIND", ("upper", "lower"))


@pytest.mark.parametrize(("command", "flag", "row"), ROWS)
def test_the_function_of_a_row_takes_its_options(command, flag, row):
    function = row.load_function()
    assert {option.name for option in row.options} <= set(inspect.signature(function).parameters)
    if command == "convert":
        assert callable(formats.load_function(row.tokenizer))


@pytest.mark.parametrize(("command", "flag", "row"), ROWS)
def test_help_and_documents_name_each_format_and_option(command, flag, row, capsys):
    assert main([command, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    document = (Path(formats.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert f"  {row.name}" in document or f"{flag} {row.name}`" in document
    for text in (row.purpose, *(f"--{option.name} {option.metavar}" for option in row.options)):
        assert text in said
    for option in row.options:
        assert f"({row.name} only)" in said
        assert f"--{option.name}" in document
        assert ", ".join(option.choices) in said


def test_the_tables_and_what_the_commands_say_of_them_need_neither_torch_nor_transformers():
    """A usage error must answer at once; the modules are read without the package's root."""
    code = """
import sys, types
root = types.ModuleType("hf_vanilla_transformer")
root.__path__ = [sys.argv[1]]
sys.modules["hf_vanilla_transformer"] = root
import hf_vanilla_transformer.cli.convert, hf_vanilla_transformer.cli.export
print(sorted({"torch", "transformers", "datasets", "numpy"} & set(sys.modules)))
"""
    package = str(Path(formats.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code, package], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_row_is_all_that_a_format_needs(monkeypatch, tmp_path, capsys, tiny_model_folder):
    """Another one is in the choices, the help and the checks, and runs."""

    def to_text(model, tokenizer, folder, letters="lower"):
        Path(folder).mkdir()
        (Path(folder) / "model.txt").write_text(letters, encoding="utf-8")
        return Path(folder)

    monkeypatch.setattr(formats, "to_text", to_text, raising=False)
    row = Format("text", "Text", "for reading", ".formats:to_text", (OTHER,))
    monkeypatch.setitem(EXPORT_FORMATS, "text", row)
    command = ["export", "--to", "text", "--model", str(tiny_model_folder), "--output", str(tmp_path / "text")]
    assert main([*command, "--letters", "upper"]) == 0
    assert (tmp_path / "text" / "model.txt").read_text(encoding="utf-8") == "upper"
    assert capsys.readouterr().out == f"The model is in {tmp_path / 'text'}, for text.\n"
    assert main([*command, "--letters", "greek"]) == 2
    assert "--letters must be one of upper, lower, got 'greek'" in capsys.readouterr().err
    assert main([*command, "--quantization", "int8"]) == 2
    assert "--quantization is for ctranslate2: leave it out for text" in capsys.readouterr().err


def test_in_python_too_options_are_those_of_the_format(tmp_path):
    with pytest.raises(ValueError, match="The format onnx has no option, but `quantization` was given"):
        export_folder("nowhere", "onnx", tmp_path / "out", quantization="int8")
    with pytest.raises(ValueError, match="The format marian has `positions`, but `letters` was given"):
        convert_folder("nowhere", "marian", tmp_path / "out", letters="upper")
    with pytest.raises(ValueError, match="`positions` must be one of tensor2tensor, got 'learned'"):
        convert_folder("nowhere", "marian", tmp_path / "out", positions="learned")


def test_an_unknown_format_is_refused_and_the_known_are_named(tmp_path):
    with pytest.raises(ValueError, match="A model is exported to ctranslate2, onnx or marian, got 'pickle'"):
        export_folder("nowhere", "pickle", tmp_path / "out")
    with pytest.raises(ValueError, match="A model is converted from marian or fsmt, got 'pickle'"):
        convert_folder("nowhere", "pickle", tmp_path / "out")


def test_missing_packages_are_said_before_the_model_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"The format ONNX needs onnx, onnxscript, onnxruntime\. Install them"):
        export_folder("nowhere", "onnx", tmp_path / "out")
