"""`Translator`: order, independence of batches, scores, limits, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from hf_vanilla_transformer.translation import Translation, Translator


@pytest.fixture(scope="module")
def translator(tiny_model_folder: Path) -> Translator:
    return Translator.from_pretrained(tiny_model_folder, device="cpu")


def shape_of(translation: Translation) -> tuple[list[str], list[bool]]:
    """All but the scores, in which batches may differ by rounding."""
    return [h.text for h in translation.hypotheses], [h.finished for h in translation.hypotheses]


def scores_of(translations: list[Translation]) -> torch.Tensor:
    return torch.tensor([h.score for translation in translations for h in translation.hypotheses])


def decode_by_hand(translator: Translator, sentence: str, extra: int) -> tuple[list[int], list[float]]:
    """Greedy decoding without cache, batch or `generate`: the tokens and their log-probabilities."""
    source = torch.tensor([translator.tokenizer(sentence)["input_ids"]])
    decoder_input = torch.tensor([[translator.model.config.decoder_start_token_id]])
    tokens: list[int] = []
    log_probabilities: list[float] = []
    while len(tokens) < source.shape[1] + extra and tokens[-1:] != [translator.model.config.eos_token_id]:
        with torch.no_grad():
            logits = translator.model(input_ids=source, decoder_input_ids=decoder_input).logits[0, -1]
        tokens.append(int(logits.argmax()))
        log_probabilities.append(float(logits.log_softmax(-1)[tokens[-1]]))
        decoder_input = torch.cat((decoder_input, torch.tensor([tokens[-1:]])), dim=1)
    return tokens, log_probabilities


@pytest.mark.parametrize(("num_beams", "n_best"), [(1, 1), (4, 3)])
def test_a_sentence_translates_alike_alone_and_in_any_batch(translator, sentences, num_beams, n_best):
    """Neither padding nor the order of batches nor the budget reaches a translation."""
    settings = {"num_beams": num_beams, "n_best": n_best}
    alone = [translator.translate([sentence], **settings)[0] for sentence in sentences]
    for batch_tokens in (1, 20, 100_000):
        together = translator.translate(list(sentences), batch_tokens=batch_tokens, **settings)
        assert [shape_of(each) for each in together] == [shape_of(each) for each in alone]
        torch.testing.assert_close(scores_of(together), scores_of(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length_penalty", [1.0, 0.6, 0.0])
def test_greedy_equals_decoding_by_hand(translator, sentences, length_penalty):
    """A second implementation gives the same tokens; the score is their sum over their number to the penalty."""
    some = list(sentences[:4])
    translations = translator.translate(some, num_beams=1, length_penalty=length_penalty)
    assert {translation.finished for translation in translations} == {True, False}  # both ends are seen here
    for sentence, translation in zip(some, translations, strict=True):
        tokens, log_probabilities = decode_by_hand(translator, sentence, extra=8)
        assert translation.text == translator.tokenizer.decode(tokens, skip_special_tokens=True)
        assert translation.finished == (tokens[-1] == translator.model.config.eos_token_id)
        expected = sum(log_probabilities) / len(tokens) ** length_penalty
        assert translation.score == pytest.approx(expected, abs=1e-5)


def test_greedy_score_equals_the_score_of_a_beam_of_one(translator, sentences):
    """`generate` never searches with one beam; with two, a greedy result that also wins must score the same."""
    greedy = translator.translate(list(sentences), num_beams=1)
    beams = translator.translate(list(sentences), num_beams=2)
    same = [(a.score, b.score) for a, b in zip(greedy, beams, strict=True) if a.text == b.text]
    assert len(same) > 3
    torch.testing.assert_close(torch.tensor([a for a, _ in same]), torch.tensor([b for _, b in same]))


@pytest.mark.parametrize("length_penalty", [1.0, 0.6])
def test_beam_scores_are_those_of_generate(translator, sentences, length_penalty):
    """Memory is let go of at each step, and the scores stay what `generate` itself returns."""
    sentence = sentences[2]
    outputs = translator.model.generate(
        input_ids=torch.tensor([translator.tokenizer(sentence)["input_ids"]]),
        num_beams=4,
        num_return_sequences=4,
        length_penalty=length_penalty,
        max_extra_tokens=8,
        return_dict_in_generate=True,
        output_scores=True,
    )
    translation = translator.translate([sentence], num_beams=4, n_best=4, length_penalty=length_penalty)[0]
    texts = translator.tokenizer.batch_decode(outputs.sequences, skip_special_tokens=True)
    assert [h.text for h in translation.hypotheses] == texts
    torch.testing.assert_close(scores_of([translation]), outputs.sequences_scores)


def test_hypotheses_come_best_first_and_the_first_is_the_translation(translator, sentences):
    for translation in translator.translate(list(sentences), num_beams=4, n_best=4):
        scores = [hypothesis.score for hypothesis in translation.hypotheses]
        assert len(scores) == 4
        assert scores == sorted(scores, reverse=True)
        assert max(scores) <= 0
        best = translation.hypotheses[0]
        assert (translation.text, translation.score, translation.finished) == (best.text, best.score, best.finished)


def test_sentences_without_text_are_not_shown_to_the_model(translator, monkeypatch):
    monkeypatch.setattr(translator.model, "generate", lambda **_: pytest.fail("the model was asked"))
    done = []
    translations = translator.translate(["", " \t", "\u2003\n"], n_best=2, progress=done.append)
    assert [[(h.text, h.score) for h in each.hypotheses] for each in translations] == [[("", 0.0)]] * 3
    assert sum(done) == 3


def test_progress_counts_every_sentence_once(translator, sentences):
    done: list[int] = []
    translator.translate([*sentences, ""], num_beams=1, batch_tokens=30, progress=done.append)
    assert sum(done) == len(sentences) + 1
    assert len(done) > 3


def test_defaults_come_from_the_generation_config(translator, sentences):
    """The folder's config says 4 beams and 8 more tokens."""
    given = translator.translate(list(sentences), num_beams=4, max_extra_tokens=8)
    assert translator.translate(list(sentences)) == given
    assert translator.decoding() == {"num_beams": 4, "length_penalty": 1.0, "max_extra_tokens": 8}
    changed = translator.decoding(num_beams=2, length_penalty=0.6, no_repeat_ngram_size=3)
    assert changed == {"num_beams": 2, "length_penalty": 0.6, "max_extra_tokens": 8, "no_repeat_ngram_size": 3}
    assert json.loads(json.dumps(changed)) == changed


def test_a_config_without_length_gives_the_papers_allowance(translator, monkeypatch):
    """Section 6.1; `generate` alone would stop at 20 tokens without a word."""
    config = GenerationConfig(decoder_start_token_id=1, eos_token_id=None, pad_token_id=0)
    monkeypatch.setattr(translator.model, "generation_config", config)
    assert translator.decoding()["max_extra_tokens"] == 50
    monkeypatch.setattr(translator.tokenizer, "batch_decode", lambda rows, **_: [str(len(row)) for row in rows])
    monkeypatch.setattr(translator.model.config, "eos_token_id", None)
    length = len(translator.tokenizer("merci")["input_ids"])
    assert [each.text for each in translator.translate(["merci"])] == [str(length + 50)]


def test_a_length_asked_for_by_the_call_holds_for_all(translator, monkeypatch):
    monkeypatch.setattr(translator.tokenizer, "batch_decode", lambda rows, **_: [str(len(row)) for row in rows])
    cut = [each for each in translator.translate(["merci", "la maison"], max_new_tokens=3) if not each.finished]
    assert cut
    assert {each.text for each in cut} == {"3"}
    assert "max_extra_tokens" not in translator.decoding(max_new_tokens=3)


def test_lines_stream_in_order_and_steady_memory(translator, sentences):
    """No more than a chunk is read ahead of what was taken."""
    read = 0

    def lines() -> Any:
        nonlocal read
        for sentence in sentences:
            read += 1
            yield sentence

    stream = translator.translate_lines(lines(), chunk_lines=3, num_beams=1)
    assert read == 0
    first = next(stream)
    assert read == 3
    together = translator.translate(list(sentences), num_beams=1)
    assert [shape_of(each) for each in (first, *stream)] == [shape_of(each) for each in together]


def test_a_model_in_training_is_left_in_training(translator, sentences):
    expected = translator.translate([sentences[0]])
    translator.model.train()
    try:
        assert translator.translate([sentences[0]]) == expected  # without dropout
        assert translator.model.training
    finally:
        translator.model.eval()


def test_learned_positions_end_sources_with_an_error_and_targets_at_the_table(tiny_model_folder, tmp_path):
    config = json.loads((tiny_model_folder / "config.json").read_text(encoding="utf-8"))
    from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    for name in ("auto_map", "architectures", "dtype", "transformers_version", "model_type"):
        config.pop(name, None)
    torch.manual_seed(0)
    config = VanillaTransformerConfig(**{**config, "positional_encoding": "learned", "max_position_embeddings": 12})
    tokenizer = Translator.from_pretrained(tiny_model_folder, device="cpu").tokenizer
    learned = Translator(VanillaTransformerForConditionalGeneration(config), tokenizer)

    assert learned.translate(["merci"], num_beams=1, max_extra_tokens=50)[0].text
    with pytest.raises(ValueError, match=r"positions for 12 tokens, but sentences\[1\] has \d+"):
        learned.translate(["merci", "merci " * 30])
    with pytest.raises(ValueError, match=r"positions for 12 tokens, but line 4 has"):
        list(learned.translate_lines(["merci", "", "merci", "merci " * 30], chunk_lines=2))


def test_sinusoids_take_sentences_of_any_length(translator):
    """Far longer than `max_position_embeddings` and than the budget of a batch: a batch of its own, untruncated."""
    long = "la petite maison est vieille " * 300
    tokens = len(translator.tokenizer(long)["input_ids"])
    assert tokens > translator.model.config.max_position_embeddings
    translations = translator.translate(["merci", long], num_beams=1, batch_tokens=64, max_new_tokens=4)
    assert shape_of(translations[1]) == shape_of(translator.translate([long], num_beams=1, max_new_tokens=4)[0])


def test_another_model_of_the_family_translates_too(tiny_model_folder):
    """Marian knows no `max_extra_tokens`; its positions are a table with an end."""
    tokenizer = Translator.from_pretrained(tiny_model_folder, device="cpu").tokenizer
    torch.manual_seed(0)
    sizes = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    sizes |= {f"{side}_ffn_dim": 16 for side in ("encoder", "decoder")}
    ids = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    config = MarianConfig(vocab_size=300, d_model=16, max_position_embeddings=40, **sizes, **ids)
    marian = Translator(MarianMTModel(config).eval(), tokenizer)
    batch = ["merci", "la petite maison est vieille", ""]
    for num_beams in (1, 3):
        together = marian.translate(batch, num_beams=num_beams, max_extra_tokens=4)
        alone = [marian.translate([sentence], num_beams=num_beams, max_extra_tokens=4)[0] for sentence in batch]
        assert [shape_of(each) for each in together] == [shape_of(each) for each in alone]
    with pytest.raises(ValueError, match=r"positions for 40 tokens, but sentences\[0\] has"):
        marian.translate(["merci " * 60])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_beams": 0}, ValueError, r"`num_beams` must be a whole number of at least 1 \(1 is greedy\), got 0"),
        ({"num_beams": 2, "n_best": 3}, ValueError, r"got n_best 3 and num_beams 2"),
        ({"n_best": 0}, ValueError, r"n_best must be at least 1"),
        ({"batch_tokens": 0}, ValueError, r"batch_tokens is a number of tokens and must be at least 1, got 0"),
        ({"max_extra_tokens": -1}, ValueError, r"`max_extra_tokens` must be a whole number of at least 0, got -1"),
        ({"num_beans": 4}, ValueError, r"num_beans"),
        ({"output_scores": False}, TypeError, r"translator itself sets output_scores"),
        ({"sentences": "merci"}, TypeError, r"list of strings, but a str was given"),
        ({"sentences": ["merci", None]}, TypeError, r"sentences\[1\] is None"),
        ({"sentences": ["merci", "\ud800"]}, ValueError, r"sentences\[1\] holds half of a surrogate pair"),
    ],
)
def test_wrong_arguments_are_refused(translator, arguments, error, message):
    with pytest.raises(error, match=message):
        translator.translate(**{"sentences": ["merci"], **arguments})


def test_chunks_without_lines_are_refused(translator):
    with pytest.raises(ValueError, match=r"chunk_lines .* at least 1, got 0"):
        translator.translate_lines(["merci"], chunk_lines=0)
