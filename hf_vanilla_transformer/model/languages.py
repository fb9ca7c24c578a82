"""Language selection for multilingual models, in the form that each model family expects.

mBART, M2M100 and NLLB take language codes through the tokenizer and a forced first token. T5 takes words before the
sentence, and OPUS-MT models with several target languages take a code before it.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

T5_TASK = "translation_"  # prefix of task names in T5's config
T5_LANGUAGES = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}
NAMES_SHOWN = 8


def choose_languages(tokenizer: Any, src_lang: str | None, tgt_lang: str | None) -> dict[str, Any]:
    """Set the source language of an mBART, M2M100 or NLLB tokenizer; return the target language for `generate`."""
    tokens = getattr(tokenizer, "lang_code_to_token", None)  # M2M100's codes differ from their tokens
    if tokens is None:
        tokens = {token: token for token in tokenizer.all_special_tokens if re.fullmatch(r"[a-z]{2,3}_\w+", token)}
    for name, code in (("src_lang", src_lang), ("tgt_lang", tgt_lang)):
        if code not in tokens:
            close = get_close_matches(code or "", tokens, NAMES_SHOWN, 0.4) or sorted(tokens)[:NAMES_SHOWN]
            raise ValueError(
                f"This model translates between {len(tokens)} languages and needs the codes of two, but `{name}` is "
                f"{code!r}. Give one of its codes, such as {', '.join(close)}."
            )
    tokenizer.src_lang = src_lang
    target = tokenizer.convert_tokens_to_ids(tokens[tgt_lang])
    # the first mBART starts targets with the language token, all others force it after the start token
    begins = type(tokenizer).__name__.removesuffix("Fast") == "MBartTokenizer"
    return {"decoder_start_token_id" if begins else "forced_bos_token_id": target}


def t5_prefix(
    sentences: Sequence[str], tasks: Mapping[str, Any], src_lang: str | None, tgt_lang: str | None
) -> tuple[str, dict[str, Any]]:
    """The prefix that tells T5 what to do ("translate English to French: "), and its settings for the pair."""
    prefixes = [tasks[name]["prefix"] for name in tasks if name.startswith(T5_TASK) and "prefix" in tasks[name]]
    if prefixes and src_lang is None and tgt_lang is None and all(s.startswith(tuple(prefixes)) for s in sentences):
        return "", {}
    pair = dict(tasks.get(f"translation_{src_lang}_to_{tgt_lang}", {}))
    names = [T5_LANGUAGES.get(language or "", language) for language in (src_lang, tgt_lang)]
    if not pair and any(name is None or len(name) < 4 for name in names):
        raise ValueError(
            f"T5 takes its languages in words, but `src_lang` is {src_lang!r} and `tgt_lang` is {tgt_lang!r}. Give "
            "both, as codes (en, de, fr, ro) or as English names (English, German)."
        )
    return pair.pop("prefix", f"translate {names[0]} to {names[1]}: "), pair


def target_code(sentences: Sequence[str], codes: Sequence[str], tgt_lang: str | None) -> str:
    """The code of the target language for an OPUS-MT model with several; empty if the sentences hold their own."""
    code = f">>{tgt_lang}<< "
    if tgt_lang is None and all(re.match(">>.+?<<", sentence.strip()) for sentence in sentences):
        return ""
    if code.strip() not in codes:
        languages = [known[2:-2] for known in codes]
        close = get_close_matches(tgt_lang or "", languages, NAMES_SHOWN, 0.4) or languages[:NAMES_SHOWN]
        raise ValueError(
            f"This model translates into {len(codes)} languages, but `tgt_lang` is {tgt_lang!r}. Give one of its "
            f"codes, such as {', '.join(close)}, or begin each sentence with it: {codes[0]} ..."
        )
    return code


__all__ = ["T5_TASK", "choose_languages", "t5_prefix", "target_code"]
