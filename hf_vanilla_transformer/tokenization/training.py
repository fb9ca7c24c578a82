"""Learn one subword vocabulary shared by both languages from any stream of text (section 5.1).

Text -> NFC -> one space in front -> words, single digits, punctuation -> UTF-8 bytes -> BPE or Unigram pieces.
Every step but NFC is undone by decoding, so any text comes back as its NFC form, byte for byte:
- All 256 bytes are in the vocabulary, each written as one printable character of the byte-level alphabet; nothing is
  unknown, and no text can be mistaken for a byte's name.
- One space is added in front, so that a word has the same pieces in every position, and is removed in decoding.
- Special tokens are not recognized in text: "</s>" in a sentence stays four characters.

Deviations: the paper tokenises the corpus first and learns BPE (English-German) or word pieces (English-French) with
tools of its time. Here, pieces never combine letters with digits or punctuation, every digit is a piece of its own,
and a piece must occur twice.

Left out: lower-casing, a vocabulary per side, subword regularization. A lone surrogate is not valid text: learning
raises an error that names the item, encoding raises the `TypeError` of `tokenizers`. Tokens added later with
`add_tokens` split the text around them, and each part then gets its own space in front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, get_args

from .special_tokens import BOS_TOKEN, EOS_TOKEN, EOS_TOKEN_ID, PAD_TOKEN, SPECIAL_TOKENS
from .unigram import learn_unigram

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Algorithm = Literal["bpe", "unigram"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
N_BYTES = 256
MINIMUM_VOCAB_SIZE = len(SPECIAL_TOKENS) + N_BYTES + 1  # at least one piece is learned
MIN_FREQUENCY = 2  # as in subword-nmt; the Unigram trainer's seeds are repeated substrings too

# A word keeps its combining marks, its inner apostrophes ("l'eau", "don't": the data decide where to split) and its
# inner zero-width joiners (Persian, Sinhala). Letters and ">" are never in one piece: none can spell a special token.
LETTERS = r"[\p{L}\p{M}]+"
WORD_PATTERN = rf" ?{LETTERS}(?:['’\u200c\u200d]{LETTERS})*| ?\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+|\s+(?!\S)|\s+"


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int = 37000,
    algorithm: str = "bpe",
    *,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Learn a vocabulary from sentences of both languages and wrap it as a plain fast tokenizer.

    For every text, `tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)` is its NFC form. Encoding
    ends with `</s>`, for `text=` and `text_target=` alike, starts with nothing and never truncates.

    Args:
        texts: sentences of both sides, read once; e.g. `itertools.chain(source, target)`.
        vocab_size: exact number of entries, the three special tokens and the 256 bytes included (260 or more).
        algorithm: "bpe" (deterministic, byte for byte) or "unigram" (deterministic except for ties in the trainer).
        show_progress: draw the progress bars of `tokenizers` on stderr.

    Returns:
        A tokenizer; `AutoTokenizer` loads its `save_pretrained` folder without this package.

    Raises:
        TypeError: `texts` is one string or not iterable, an item is not a string, or `vocab_size` is not an int.
        ValueError: the algorithm is unknown, the vocabulary is too small or larger than the text allows, there is no
            text, or it holds a lone surrogate.
    """
    _check_arguments(texts, vocab_size, algorithm)
    backend = _new_backend(algorithm)
    learn = _learn_bpe if algorithm == "bpe" else learn_unigram
    learn(backend, _checked(texts), vocab_size, show_progress)
    _check_size(backend.get_vocab_size(), vocab_size, algorithm)
    return _as_fast_tokenizer(backend)


def _check_arguments(texts: Iterable[str], vocab_size: int, algorithm: str) -> None:
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}; got {algorithm!r}.")
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int):
        raise TypeError(f"vocab_size must be a whole number; got {vocab_size!r}.")
    if vocab_size < MINIMUM_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size must be at least {MINIMUM_VOCAB_SIZE} ({N_BYTES} bytes, {len(SPECIAL_TOKENS)} special tokens "
            f"and one learned piece); got {vocab_size:,}."
        )
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(
            f"texts must be an iterable of strings, one sentence each; got one {type(texts).__name__}. "
            "Put a single text into a list."
        )


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts; refuse items that are not valid text, and at the end, input without any text."""
    n_items = n_with_text = 0
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"Every item of texts must be a string, but item {index:,} is {text!r:.80}.")
        if not _is_unicode(text):
            raise ValueError(
                f"Every item of texts must be Unicode text, but item {index:,} holds a lone surrogate: {text!r:.80}. "
                "Read the file as strict UTF-8 to find the broken line."
            )
        n_items += 1
        n_with_text += bool(text.strip())
        yield text
    if not n_with_text:
        raise ValueError(
            f"A vocabulary is learned from text, but none of the {n_items:,} items given holds any. "
            "Check the path and the column of the corpus."
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _new_backend(algorithm: str) -> Tokenizer:
    """The pipeline of the module's docstring around a model without pieces."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    backend = Tokenizer(models.BPE() if algorithm == "bpe" else models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend(" ")])
    words = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS_TOKEN}",
        pair=f"$A {EOS_TOKEN} $B:1 {EOS_TOKEN}:1",
        special_tokens=[(EOS_TOKEN, EOS_TOKEN_ID)],
    )
    return backend


def _learn_bpe(backend: Tokenizer, texts: Iterable[str], vocab_size: int, show_progress: bool) -> None:
    from tokenizers import pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    backend.train_from_iterator(texts, trainer)


def _check_size(n_learned: int, vocab_size: int, algorithm: str) -> None:
    if n_learned == vocab_size:
        return
    remedy = (
        "Give more text." if n_learned < MINIMUM_VOCAB_SIZE else f"Ask for {n_learned:,} or fewer, or give more text."
    )
    raise ValueError(
        f"A vocabulary of {vocab_size:,} entries was asked for, but this text allows at most {n_learned:,} "
        f"({algorithm}; a piece must occur {MIN_FREQUENCY} times). {remedy}"
    )


def _as_fast_tokenizer(backend: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        split_special_tokens=True,  # text never becomes a special token
        clean_up_tokenization_spaces=False,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )
