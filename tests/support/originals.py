"""Checkpoints of other formats, randomly initialised and with tokenizers learned from a few sentences.

Nothing of them is zero or one: norms, biases and the logits' bias are disturbed, so that none can be left out unseen.
"""

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    FSMTConfig,
    FSMTForConditionalGeneration,
    FSMTTokenizer,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
)

SIDES, SIZES = ("encoder", "decoder"), ("layers", "attention_heads", "ffn_dim")
VOCAB, TARGET_VOCAB = 90, 110
SEPARATE = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": TARGET_VOCAB}
FRENCH = (
    *("merci beaucoup", "je suis étudiant", "le petit chat dort", "la petite maison est vieille", "où est la gare ?"),
    *("nous ne parlons pas", "elle a vu les grands arbres", "il mange une pomme rouge", "bonjour monsieur"),
)
ENGLISH = (
    *("thank you very much", "i am a student", "the little cat sleeps", "the little house is old"),
    *("where is the station ?", "we do not speak", "she saw the tall trees", "he eats a red apple", "hello sir"),
)


@torch.no_grad()
def disturb(model: Any, seed: int = 0) -> None:
    """Add noise to every weight but the sinusoids, and make the output vary from step to step."""
    torch.manual_seed(seed)
    tables = {f"model.{side}.embed_positions.weight" for side in SIDES}
    for name, parameter in model.named_parameters():
        if name in tables:
            continue
        parameter.add_(torch.randn_like(parameter) * 0.1)
        if "embed" in name or "shared" in name:  # a longer row would be likelier at every step
            longer = 1 if model.config.scale_embedding else model.config.d_model**0.5
            parameter.mul_(1.5 * longer / parameter.norm(dim=1, keepdim=True))
    decoder = model.model.decoder
    # A tied output is likeliest to repeat its input for ever. For swish, relu and gelu f(x) - f(-x) = x, of which
    # the last feed-forward network makes a quarter turn, so that each token calls for another one.
    last, width = decoder.layers[-1], model.config.d_model
    identity = torch.eye(width)
    one, other = torch.linalg.qr(torch.randn(width, width)).Q.chunk(2, dim=1)
    turn = 2 * (one @ other.T - other @ one.T) - identity  # less the residual connection
    last.fc1.weight[: 2 * width] += torch.cat((identity, -identity))
    last.fc2.weight[:, : 2 * width] += torch.cat((turn, -turn), dim=1)
    for layer in decoder.layers:  # and the source has its say
        layer.encoder_attn.q_proj.weight.mul_(3.0)
    output = model.get_output_embeddings().weight
    if output is not decoder.embed_tokens.weight:
        output.copy_(decoder.embed_tokens.weight + torch.randn_like(output) * 0.05)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_(std=0.2)
        model.final_logits_bias[:, model.config.eos_token_id] += 1.5


def marian(seed: int = 0, **overrides: Any) -> MarianMTModel:
    """Marian with OPUS-MT's tokens (end 0, padding last, which also starts and is forbidden); `overrides` win."""
    pad = min(overrides.get("vocab_size", VOCAB), overrides.get("decoder_vocab_size") or VOCAB) - 1
    fields: dict[str, Any] = {
        **{"vocab_size": VOCAB, "d_model": 32, "max_position_embeddings": 512, "activation_function": "swish"},
        **{"encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 64, "scale_embedding": True, "forced_eos_token_id": 0},
        **{"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "bos_token_id": 0},
    }
    torch.manual_seed(seed)
    model = MarianMTModel(MarianConfig(**{**fields, **overrides})).eval()
    disturb(model, seed)
    if model.config.share_encoder_decoder_embeddings and not model.config.tie_word_embeddings:
        for stack in (model.model.encoder, model.model.decoder):  # as transformers 4 read that config
            stack.embed_tokens.weight.data.copy_(model.model.shared.weight)
    model.generation_config = GenerationConfig(
        **{"num_beams": 4, "max_length": 24, "bad_words_ids": [[pad]], "forced_eos_token_id": 0},
        **{"renormalize_logits": True, "length_penalty": 0.8},
        **{name: getattr(model.config, name) for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")},
    )
    return model


def fsmt(seed: int = 0, **overrides: Any) -> FSMTForConditionalGeneration:
    """FSMT with fairseq's tokens (0 begins, 1 pads, 2 ends and starts); `overrides` win."""
    fields: dict[str, Any] = {
        **{"langs": ["en", "de"], "src_vocab_size": VOCAB, "tgt_vocab_size": TARGET_VOCAB, "d_model": 32},
        **{"encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 64, "scale_embedding": True, "tie_word_embeddings": False},
        **{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2},
    }
    torch.manual_seed(seed)
    model = FSMTForConditionalGeneration(FSMTConfig(**{**fields, **overrides})).eval()
    disturb(model, seed)
    model.generation_config = GenerationConfig(
        # random weights may say "padding", which a trained model never does: FSMT gives it no position
        **{"num_beams": 5, "max_length": 24, "length_penalty": 1.15, "early_stopping": True, "bad_words_ids": [[1]]},
        **{name: fields[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")},
    )
    return model


def marian_tokenizer(folder: Path, separate: bool = False, **options: Any) -> MarianTokenizer:
    """A real Marian tokenizer: SentencePiece models learned on few sentences, and vocab.json."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for side, text in (("source", FRENCH), ("target", ENGLISH)):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text * 4),
            model_prefix=str(folder / side),
            vocab_size=40,
            bos_id=-1,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
        (folder / f"{side}.vocab").unlink()
        processor = sentencepiece.SentencePieceProcessor(str(folder / f"{side}.spm"))
        pieces.append([processor.id_to_piece(i) for i in range(len(processor))])
    special = ["</s>", "<unk>"]
    sides = pieces if separate else [[*pieces[0], *pieces[1]]]
    sides = [[*special, *dict.fromkeys(piece for piece in side if piece not in special)] for side in sides]
    if separate:  # ids of padding and end are one on both sides
        sides = [[*special, "<pad>", *side[2:]] for side in sides]
        (folder / "target_vocab.json").write_text(json.dumps({p: i for i, p in enumerate(sides[1])}), encoding="utf-8")
        options = {"separate_vocabs": True, "target_vocab_file": str(folder / "target_vocab.json"), **options}
    else:
        sides[0].append("<pad>")
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(sides[0])}), encoding="utf-8")
    return MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), **options
    )


def marian_folder(folder: Path, separate: bool = False, **overrides: Any) -> Path:
    """A whole OPUS-MT folder."""
    tokenizer = marian_tokenizer(folder.with_name(folder.name + "-pieces"), separate)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer.encoder)}
    tokens = {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": tokenizer.pad_token_id}
    if separate:
        sizes |= {"decoder_vocab_size": len(tokenizer.decoder), "share_encoder_decoder_embeddings": False}
    model = marian(**{**sizes, **tokens, **overrides})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def fsmt_folder(folder: Path, **overrides: Any) -> Path:
    """A whole WMT19 folder: byte-pair merges and a vocabulary for each language."""
    pieces = folder.with_name(folder.name + "-pieces")
    pieces.mkdir(parents=True)
    vocabularies = []
    for name, text in (("src", FRENCH), ("tgt", ENGLISH)):
        letters = sorted({letter for sentence in text for letter in sentence if letter != " "})
        tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, *(f"{letter}</w>" for letter in letters)]
        (pieces / f"{name}.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), encoding="utf-8")
        vocabularies.append(len(tokens))
    (pieces / "merges.txt").write_text("l e 10\n", encoding="utf-8")
    tokenizer = FSMTTokenizer(
        ["fr", "en"], str(pieces / "src.json"), str(pieces / "tgt.json"), str(pieces / "merges.txt")
    )
    sizes = {"langs": ["fr", "en"], "src_vocab_size": vocabularies[0], "tgt_vocab_size": vocabularies[1]}
    fsmt(**{**sizes, **overrides}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ragged_batch(vocab_size: int, lengths: list[int], pad: int, end: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of sentences of these lengths that end in `end`, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), max(lengths)), pad)
    for row, length in enumerate(lengths):
        ids[row, : length - 1] = torch.randint(3, vocab_size - 1, (length - 1,), generator=generator)
        ids[row, length - 1] = end
    return {"input_ids": ids, "attention_mask": ids.ne(pad).long()}
