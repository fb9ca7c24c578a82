"""The formats that models are imported from and exported to, one row each.

These tables define the commands' choices, help and usage errors, and which function runs. A new format is a row and a
file. Functions are given as text, `module:function` in this folder, and imported when they are called, so that the
tables need neither torch nor transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar


@dataclass(frozen=True)
class FormatOption:
    """An option of one format.

    Attributes:
        name: name of the option and of the keyword argument of the format's function.
        help: what it does.
        metavar: name of its value in the help.
        choices: all allowed values; empty if any text is allowed.
    """

    name: str
    help: str
    metavar: str
    choices: tuple[str, ...] = ()

    def require(self, value: str) -> None:
        """Check a value of the option.

        Raises:
            ValueError: it is not one of the choices.
        """
        if self.choices and value not in self.choices:
            raise ValueError(f"`{self.name}` must be one of {', '.join(self.choices)}, got {value!r}.")


@dataclass(frozen=True)
class Format:
    """An export format, and the base class of import formats.

    Attributes:
        name: its value for `--to` or `--from`.
        title: its name in messages.
        purpose: what it is for, in the commands' help.
        function: for an export `function(model, tokenizer, folder, **options)`, which writes the folder and returns
            it; for an import `function(folder_or_id, **options)`, which returns the model.
        options: the format's own options.
        packages: packages to install besides this package's dependencies.
    """

    name: str
    title: str
    purpose: str
    function: str
    options: tuple[FormatOption, ...] = ()
    packages: tuple[str, ...] = ()

    def has_option(self, name: str) -> bool:
        """Whether this format has an option of that name."""
        return any(option.name == name for option in self.options)

    def option(self, name: str) -> FormatOption:
        """The option of that name."""
        return next(option for option in self.options if option.name == name)

    def require_options(self, given: Mapping[str, str]) -> None:
        """Check that the format has these options, and that their values are allowed.

        Raises:
            ValueError: an option or a value is unknown.
        """
        for name, value in given.items():
            if not self.has_option(name):
                known = ", ".join(f"`{option.name}`" for option in self.options) or "no option"
                raise ValueError(f"The format {self.name} has {known}, but `{name}` was given. Leave it out.")
            self.option(name).require(value)

    def require_packages(self) -> None:
        """Check that the packages are installed.

        Raises:
            ImportError: a package is not installed.
        """
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise ImportError(
                f"The format {self.title} needs {', '.join(missing)}. Install them: pip install {' '.join(missing)}"
            )

    def load_function(self) -> Callable[..., Any]:
        """Import the function that reads or writes the format."""
        return load_function(self.function)


def load_function(name: str) -> Callable[..., Any]:
    """Import a function given as `module:function`, relative to this folder."""
    module, function = name.split(":")
    return getattr(import_module(module, __package__), function)


@dataclass(frozen=True)
class ImportFormat(Format):
    """An import format.

    Attributes:
        tokenizer: the function that loads the model's tokenizer, `function(folder_or_id)`.
    """

    tokenizer: str = "..translation.loading:load_tokenizer"


AnyFormat = TypeVar("AnyFormat", bound=Format)


def _by_name(*rows: AnyFormat) -> dict[str, AnyFormat]:
    return {row.name: row for row in rows}


def row_of(name: str, formats: Mapping[str, AnyFormat], what: str) -> AnyFormat:
    """Return the row of a format.

    Args:
        name: name of the format.
        formats: one of the two tables.
        what: what happens to a model, for the message.

    Raises:
        ValueError: there is no such row.
    """
    if name not in formats:
        *others, last = formats
        known = f"{', '.join(others)} or {last}"
        raise ValueError(f"A model is {what} {known}, got {name!r}. Give one of these.")
    return formats[name]


IMPORT_FORMATS = _by_name(
    ImportFormat(
        "marian",
        title="Marian",
        purpose="OPUS-MT models in transformers' format (MarianMTModel). Marian C++ trained them with Tensor2Tensor's "
        "sinusoids; transformers computes slightly different ones. Without --positions the result equals "
        "transformers' model; --positions tensor2tensor uses the sinusoids of training",
        function=".marian:from_marian",
        options=(
            FormatOption(
                "positions",
                "use other sinusoids than transformers'",
                metavar="KIND",
                choices=("tensor2tensor",),
            ),
        ),
    ),
    ImportFormat(
        "fsmt",
        title="FSMT",
        purpose="fairseq's WMT19 models in transformers' format (FSMTForConditionalGeneration)",
        function=".fsmt:from_fsmt",
    ),
)

EXPORT_FORMATS = _by_name(
    Format(
        "ctranslate2",
        title="CTranslate2",
        purpose="for ctranslate2.Translator; translate_options.json holds the model's generation config as arguments "
        "for translate_batch. Settings without an argument there (forced tokens, max_extra_tokens ...) are left out, "
        "and a warning names each: translations may differ",
        function=".ctranslate2_export:to_ctranslate2",
        options=(
            FormatOption(
                "quantization",
                "type of the stored weights, float32 by default",
                metavar="TYPE",
                choices=(
                    *("float32", "int8", "int8_float32", "int8_float16", "int8_bfloat16"),
                    *("int16", "float16", "bfloat16"),
                ),
            ),
        ),
        packages=("ctranslate2",),
    ),
    Format(
        "onnx",
        title="ONNX",
        purpose="encoder.onnx and decoder.onnx, with onnx_runner.py, which decodes greedily with onnxruntime",
        function=".onnx_export:to_onnx",
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    Format(
        "marian",
        title="Marian",
        purpose="for transformers' MarianMTModel",
        function=".marian:write_marian",
    ),
)
