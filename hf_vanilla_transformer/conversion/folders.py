"""Convert a folder or Hub name to a folder: import from another format, or export to one."""

import logging
import os
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..model.whole_folders import require_empty_folder, sealed_folder
from ..translation.loading import load_model_and_tokenizer
from .exports import require_saveable_settings
from .formats import EXPORT_FORMATS, IMPORT_FORMATS, load_function, row_of
from .vocabularies import source_vocabulary, target_vocabulary

logger = logging.getLogger(__name__)


def convert_folder(
    source: str | os.PathLike[str], format_name: str, output: str | os.PathLike[str], **options: str
) -> VanillaTransformerForConditionalGeneration:
    """Convert a model of another format, with its tokenizer, to a complete folder of this package.

    Args:
        source: the model's folder or Hub name.
        format_name: one of `IMPORT_FORMATS`.
        output: the folder to create; may exist if it is empty.
        options: the format's own options.

    Returns:
        The converted model, now in `output`.

    Raises:
        ImportError: a package that the format needs is not installed.
        FileExistsError: `output` is not empty.
        FileNotFoundError, NotADirectoryError, ValueError: as in the format's function; an unknown format or option; or
            a tokenizer that does not fit the model.
    """
    row = row_of(format_name, IMPORT_FORMATS, "converted from")
    row.require_options(options)
    row.require_packages()
    require_empty_folder(output)
    model = row.load_function()(source, **options)
    tokenizer = load_function(row.tokenizer)(source)
    require_its_tokenizer(model.config, tokenizer, str(source))
    about = {"format": format_name, "positions": model.config.positional_encoding}
    save_converted(model, tokenizer, output, {"converted_from": about})
    return model


def export_folder(
    source: str | os.PathLike[str], format_name: str, output: str | os.PathLike[str], **options: str
) -> Path:
    """Export one of this package's models, with its tokenizer, to a folder of another format.

    Args:
        source: the model's folder or Hub name.
        format_name: one of `EXPORT_FORMATS`.
        output: the folder to create; may exist if it is empty.
        options: the format's own options.

    Returns:
        `output`.

    Raises:
        ImportError: a package that the format needs is not installed.
        FileExistsError: `output` is not empty.
        FileNotFoundError, NotADirectoryError, ValueError: as in `load_model_and_tokenizer` and the format's function;
            or an unknown format or option.
    """
    row = row_of(format_name, EXPORT_FORMATS, "exported to")
    row.require_options(options)
    row.require_packages()
    require_empty_folder(output)
    written: Path = row.load_function()(*load_model_and_tokenizer(source), output, **options)
    return written


def save_converted(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output: str | os.PathLike[str],
    about: dict[str, object],
) -> Path:
    """Save a converted model and its tokenizer as a complete folder.

    Args:
        model: the converted model.
        tokenizer: the original's tokenizer.
        output: the folder to create; may exist if it is empty.
        about: facts about the conversion for the manifest.

    Raises:
        FileExistsError: `output` is not empty.
        ValueError: generation settings that `transformers` does not save.
    """
    require_saveable_settings(model.generation_config)
    with sealed_folder(output, about) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Path(output)


def require_its_tokenizer(config: object, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Check that the tokenizer has no token without embedding, and the model's end and padding tokens.

    It may have fewer tokens: embeddings are often padded to a round number.

    Raises:
        ValueError: the tokenizer does not fit the model.
    """
    rows = {
        side: getattr(config, field) for side, field in (("source", "vocab_size"), ("target", "decoder_vocab_size"))
    }
    tokens = {"source": len(source_vocabulary(tokenizer)), "target": len(target_vocabulary(tokenizer))}
    for side in rows:
        if tokens[side] > rows[side]:
            raise _another_models(
                name, f"it has {tokens[side]:,} {side} tokens where the model has embeddings for {rows[side]:,}"
            )
        if tokens[side] < rows[side]:
            logger.info(f"{name}: the last {rows[side] - tokens[side]:,} embeddings have no {side} token.")
    ends = getattr(config, "eos_token_id", None)
    # fairseq's end of sentence is its separator, the only name for it in transformers' tokenizer
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end not in (ends if isinstance(ends, list) else [ends]):
        raise _another_models(name, f"its end of sentence is token {end} where the model's is {ends}")
    padding = getattr(config, "pad_token_id", None)
    if tokenizer.pad_token_id != padding:
        raise _another_models(name, f"its padding is token {tokenizer.pad_token_id} where the model's is {padding}")


def _another_models(name: str, difference: str) -> ValueError:
    return ValueError(
        f"The tokenizer in {name} must be the model's own, but {difference}. Copy the tokenizer's files again from "
        "where the model came from."
    )
