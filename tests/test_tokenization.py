"""Any text comes back, only text is learned, and the saved folder needs no package of ours."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from fresh_process import WITHOUT_PACKAGE, FreshProcesses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_vanilla_transformer.tokenization import (
    ALGORITHMS,
    BOS_TOKEN_ID,
    EOS_TOKEN_ID,
    PAD_TOKEN_ID,
    SPECIAL_TOKENS,
    load_tokenizer,
    train_tokenizer,
)
from hf_vanilla_transformer.tokenization.training import _new_backend
from hf_vanilla_transformer.tokenization.unigram import MARK, _count_words

VOCAB_SIZE = 290
CORPUS = (
    *("L'eau de l'étang n'est pas aujourd'hui plus froide.", "The water of the pond isn't any colder today."),
    *("Nous étions 1234 étudiants dans l'école.", "We were 1234 students in the school, in the old school."),
    *("Die Straße führt zum großen Schloss.", "The street leads to the great castle, to the old castle."),
)
NASTY = (
    *(
        "",
        " ",
        "  ",
        "   a",
        "a   ",
        " a  b ",
        "\t",
        "\n",
        "\r\n",
        "a\n\n b",
        "\x00",
        "\x00a\x00",
        "\x1c",
        "\x7f\x85\xa0",
    ),
    *("</s>", "<s>", "<pad>", "<unk>", " </s> ", "x</s>y<pad>z", "</s></s>", "<0x41>", "<0x0A>", "<|endoftext|>"),
    *("Ġ", "Ċ", "ĠĠa", "ÿ", "Ā", "▁", "▁a▁", " ▁ ", "\u2028", "\u2029", "\ufeff", "\u200b\u200d", "\ufffd"),
    *(
        "👩‍👩‍👧‍👦",
        "🇫🇷",
        "\u0301",
        " \u0301",
        "e\u0301",
        "\u1100\u1161\u11a8",
        "क्षि",
        "می‌خواهم",
        "漢字仮名",
        "\u202eabc",
    ),
    *("\U0010ffff", "\uffff", "\ue000", "\u0378", "\U000e0041", "1 2345", "a ,b . c!", "don't n 't", "x" * 300),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
HOSTILE_TEXT = st.lists(st.one_of(TEXT, st.sampled_from(NASTY)), max_size=6).map("".join)
PROPERTY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved tokenizer of each kind beside a model's config, as in the folder of a finished run."""
    config = {
        "model_type": "vanilla_transformer",
        "auto_map": {"AutoConfig": "configuration_vanilla_transformer.VanillaTransformerConfig"},
    }
    folders = {algorithm: tmp_path_factory.mktemp(algorithm) for algorithm in ALGORITHMS}
    for algorithm, folder in folders.items():
        train_tokenizer(CORPUS * 2, VOCAB_SIZE, algorithm).save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folders


@pytest.fixture(scope="module")
def folder(algorithm: str, folders: dict[str, Path]) -> Path:
    return folders[algorithm]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer after a round trip through its folder: what holds here holds for users."""
    return load_tokenizer(folder)


def nfc(text: str) -> str:
    return normalizers.NFC().normalize_str(text)


def decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


# ---- any text comes back -------------------------------------------------------------------------------------------


@PROPERTY
@given(text=HOSTILE_TEXT)
def test_any_text_comes_back_and_never_holds_a_special_token(tokenizer: PreTrainedTokenizerFast, text: str):
    for ids in (tokenizer(text).input_ids, tokenizer(text_target=text).input_ids):
        assert decode(tokenizer, ids) == nfc(text)
        assert ids[-1] == EOS_TOKEN_ID
        assert not {PAD_TOKEN_ID, BOS_TOKEN_ID, EOS_TOKEN_ID} & set(ids[:-1])


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str):
    assert decode(tokenizer, tokenizer(text).input_ids) == nfc(text)
    assert tokenizer("a", text_target=text)["labels"] == tokenizer(text).input_ids


@given(text=TEXT)
def test_the_only_normalisation_is_nfc(text: str):
    """Python's own tables agree wherever both know the character; from Unicode 3.2 on its NFC never changes."""
    old = "".join(character for character in text if unicodedata.ucd_3_2_0.category(character) != "Cn")
    assert nfc(old) == unicodedata.normalize("NFC", old)


def test_the_empty_text_is_only_its_end(tokenizer: PreTrainedTokenizerFast):
    assert tokenizer("").input_ids == [EOS_TOKEN_ID]


def test_a_lone_surrogate_is_no_text(tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(TypeError):
        tokenizer("a\ud800")


def test_a_word_is_the_same_pieces_wherever_it_stands(tokenizer: PreTrainedTokenizerFast):
    alone, twice = tokenizer("school").input_ids[:-1], tokenizer("school school").input_ids[:-1]
    assert twice == alone * 2


def test_digits_stand_alone_and_never_join_letters(tokenizer: PreTrainedTokenizerFast):
    assert tokenizer.tokenize("étudiants1234")[-4:] == ["1", "2", "3", "4"]


def test_padded_batches_decode_to_their_texts(tokenizer: PreTrainedTokenizerFast):
    """Rows as `generate` returns them: start token, text, end, padding."""
    texts = ["the old school", "", " a <pad> b"]
    rows = tokenizer(texts, padding=True).input_ids
    generated = [[BOS_TOKEN_ID, *row] for row in rows]
    assert len({len(row) for row in rows}) == 1
    assert tokenizer.batch_decode(generated, skip_special_tokens=True) == texts


# ---- what the tokenizer is -----------------------------------------------------------------------------------------


def test_special_tokens_and_settings_survive_saving(tokenizer: PreTrainedTokenizerFast):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == list(SPECIAL_TOKENS)
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.unk_token is None
    assert (tokenizer.padding_side, tokenizer.clean_up_tokenization_spaces) == ("right", False)
    assert tokenizer.model_max_length > 10**9
    assert len(tokenizer("a" * 5000).input_ids) > 1000
    assert set(tokenizer("a")) == {"input_ids", "attention_mask"}
    assert tokenizer("a", "b").input_ids == [*tokenizer("a").input_ids, *tokenizer("b").input_ids]


def test_vocabulary_has_exactly_the_size_asked_for(tokenizer: PreTrainedTokenizerFast):
    assert len(tokenizer) == tokenizer.vocab_size == len(tokenizer.get_vocab()) == VOCAB_SIZE
    assert set(tokenizer.get_vocab().values()) == set(range(VOCAB_SIZE))


def test_same_text_gives_the_same_tokenizer(algorithm: str, folder: Path, tmp_path: Path):
    train_tokenizer(iter(CORPUS * 2), VOCAB_SIZE, algorithm).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_saving_a_loaded_tokenizer_changes_nothing(tokenizer: PreTrainedTokenizerFast, folder: Path, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("text", ["</s>", "<pad>", "<s>", "a</s>b", "x<pad> y", "«<s>»"])
def test_a_corpus_that_spells_special_tokens_teaches_no_such_piece(algorithm: str, text: str):
    """A piece of the same spelling would silently share the special token's id."""
    learned = train_tokenizer([text, f"{text} {text}", text * 3] * 50 + list(CORPUS * 2), VOCAB_SIZE, algorithm)
    ids = learned(f"{text} {text}").input_ids
    assert not {PAD_TOKEN_ID, BOS_TOKEN_ID, EOS_TOKEN_ID} & set(ids[:-1])
    assert decode(learned, ids) == f"{text} {text}"
    assert len(learned) == VOCAB_SIZE


def test_stock_collator_pads_both_sides(tokenizer: PreTrainedTokenizerFast):
    rows = [tokenizer(source, text_target=target) for source, target in (("a", "b b b b"), ("c c c c c", ""))]
    batch = DataCollatorForSeq2Seq(tokenizer, return_tensors="np")([dict(row) for row in rows])
    assert batch["input_ids"][0].tolist()[-1] == PAD_TOKEN_ID
    assert batch["attention_mask"][0].tolist()[-1] == 0
    assert batch["labels"][1].tolist()[:2] == [EOS_TOKEN_ID, -100]


def test_unigram_learns_a_word_that_has_no_other_form():
    """The trainer of `tokenizers` alone cannot: its seeds must go on in two ways, and "giant" only ever ends."""
    learned = train_tokenizer(["the giant"] * 20 + list(CORPUS * 2), VOCAB_SIZE, "unigram")
    assert learned.tokenize("giant") == ["Ġgiant"]
    assert [piece for piece in learned.get_vocab() if MARK in piece] == [MARK]


@PROPERTY
@given(text=HOSTILE_TEXT)
def test_words_counted_for_unigram_are_those_of_the_pre_tokenizer(text: str):
    backend = _new_backend("unigram")
    cut = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)) if text else []
    assert _count_words(backend, [text]) == Counter(word for word, _ in cut)


# ---- without our package -------------------------------------------------------------------------------------------

QUESTION = """
import json
from transformers import AutoTokenizer

texts, *folders = json.loads(sys.argv[1])
seen = []
for folder in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(texts).input_ids
    seen.append([type(tokenizer).__name__, ids, tokenizer.batch_decode(ids, skip_special_tokens=True)])
print()
print(json.dumps(seen))
"""


def test_auto_tokenizer_needs_nothing_of_ours(folders: dict[str, Path], fresh_processes: FreshProcesses):
    """Beside a config of a model type that the process does not know, whose code it is offered and does not run."""
    question = json.dumps([NASTY, *map(str, folders.values())])
    result = fresh_processes.run(WITHOUT_PACKAGE + QUESTION, question)
    assert result.returncode == 0, result.stderr
    here = [load_tokenizer(folder)(list(NASTY)).input_ids for folder in folders.values()]
    assert json.loads(result.stdout.strip().split("\n")[-1]) == [
        ["TokenizersBackend", ids, [nfc(text) for text in NASTY]] for ids in here
    ]
