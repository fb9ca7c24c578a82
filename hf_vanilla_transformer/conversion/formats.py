"""The formats that models are read from and written in, a row for each.

The commands' choices, help and errors of usage follow from these tables, and so does which function runs. A new format
is a row and a file. Functions are named as text, `module:function` of this room, and imported when they are called, so
that the tables need neither torch nor transformers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar


@dataclass(frozen=True)
class FormatOption:
    """A setting that one format has.

    Attributes:
        name: of the option, and of the keyword that the format's function takes.
        help: what it does.
        metavar: what its value is called in the help.
        choices: all its values; none if it takes any text.
    """

    name: str
    help: str
    metavar: str
    choices: tuple[str, ...] = ()

    def require(self, value: str) -> None:
        """Refuse a value that the option does not have.

        Raises:
            ValueError: it is none of the choices.
        """
        if self.choices and value not in self.choices:
            raise ValueError(f"`{self.name}` must be one of {', '.join(self.choices)}, got {value!r}.")


@dataclass(frozen=True)
class Format:
    """One format that models go to; of those that they come from it is the base.

    Attributes:
        name: as `--to` and `--from` have it.
        title: as messages have it.
        purpose: what it is for, in the commands' help.
        function: of an export `function(model, tokenizer, folder, **options)`, which writes the folder and returns it;
            of an import `function(folder_or_id, **options)`, which gives the model.
        options: what only this format has.
        packages: what must be installed, beside what this package needs.
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
        """Refuse options that the format does not have, and values that they do not have.

        Raises:
            ValueError: there is one.
        """
        for name, value in given.items():
            if not self.has_option(name):
                known = ", ".join(f"`{option.name}`" for option in self.options) or "no option"
                raise ValueError(f"The format {self.name} has {known}, but `{name}` was given. Leave it out.")
            self.option(name).require(value)

    def require_packages(self) -> None:
        """Refuse to begin without the packages.

        Raises:
            ImportError: one is not installed.
        """
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise ImportError(
                f"The format {self.title} needs {', '.join(missing)}. Install them: pip install {' '.join(missing)}"
            )

    def load_function(self) -> Callable[..., Any]:
        """Import what reads or writes the format."""
        return load_function(self.function)


def load_function(name: str) -> Callable[..., Any]:
    """Import a function named as `module:function`, relative to this room."""
    module, function = name.split(":")
    return getattr(import_module(module, __package__), function)


@dataclass(frozen=True)
class ImportFormat(Format):
    """A format that models come from.

    Attributes:
        tokenizer: what reads the tokenizer beside it, `function(folder_or_id)`.
    """

    tokenizer: str = "..translation.loading:load_tokenizer"


AnyFormat = TypeVar("AnyFormat", bound=Format)


def _by_name(*rows: AnyFormat) -> dict[str, AnyFormat]:
    return {row.name: row for row in rows}


def row_of(name: str, formats: Mapping[str, AnyFormat], what: str) -> AnyFormat:
    """The row of a format.

    Args:
        name: of the format.
        formats: one of the two tables.
        what: happens to a model, for the message.

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
        purpose="OPUS-MT models, as transformers has them (MarianMTModel). Marian C++ trained them with the sinusoids "
        "of Tensor2Tensor; transformers computes them a little differently. Without --positions the folder does what "
        "transformers does; --positions tensor2tensor takes those that the model was trained with",
        function=".marian:from_marian",
        options=(
            FormatOption(
                "positions",
                "other sinusoids than those of transformers",
                metavar="KIND",
                choices=("tensor2tensor",),
            ),
        ),
    ),
    ImportFormat(
        "fsmt",
        title="FSMT",
        purpose="fairseq's WMT19 models, as transformers has them (FSMTForConditionalGeneration)",
        function=".fsmt:from_fsmt",
    ),
)

EXPORT_FORMATS = _by_name(
    Format(
        "ctranslate2",
        title="CTranslate2",
        purpose="for ctranslate2.Translator; translate_options.json holds the model's generation config as arguments "
        "for translate_batch. Settings that this has no argument for (forced tokens, max_extra_tokens ...) are left "
        "out, and a warning names each: there translations may differ",
        function=".ctranslate2_export:to_ctranslate2",
        options=(
            FormatOption(
                "quantization",
                "how weights are stored, float32 by default",
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
        purpose="encoder.onnx and decoder.onnx; onnx_runner.py, beside them, decodes greedily with onnxruntime",
        function=".onnx_export:to_onnx",
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    Format(
        "marian",
        title="Marian",
        purpose="for MarianMTModel of transformers",
        function=".marian:write_marian",
    ),
)
