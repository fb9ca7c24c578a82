"""Do text and token ids convert to each other as the model expects?"""

from .findings import Finding, Patient


def check_vocabulary(patient: Patient) -> Finding:
    """Whether tokenizer and model agree on the vocabulary and the special tokens."""
    name = "vocabulary"
    tokenizer, config = patient.tokenizer, patient.model.config
    rows = patient.model.get_input_embeddings().weight.shape[0]
    problems = []
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        problems.append(f"the tokenizer has {largest + 1:,} tokens, but the model has embeddings for {rows:,}")
    for role in ("pad", "eos"):
        theirs, ours = getattr(tokenizer, f"{role}_token_id"), getattr(config, f"{role}_token_id", None)
        known = ours if isinstance(ours, (list, tuple)) else (ours,)
        if theirs is not None and ours is not None and theirs not in known:
            problems.append(f"`{role}_token_id` is {theirs} in the tokenizer and {ours} in config.json")
    if problems:
        remedy = "Use the tokenizer that the model was trained with, and its special token ids in config.json."
        return Finding(name, "fail", "; ".join(problems), remedy)
    return Finding(name, "pass", f"{len(tokenizer):,} tokens for {rows:,} embeddings; special tokens agree")


def check_source_text(patient: Patient) -> Finding:
    """Whether sources end with the end-of-sentence token and contain no unknown tokens."""
    name = "source text"
    problems = text_problems(patient, patient.source_ids)
    if problems:
        return Finding(name, "fail", "; ".join(problems), "Save the tokenizer that the model was trained with.")
    count = sum(map(len, patient.source_ids))
    return Finding(
        name, "pass", f"{len(patient.sentences)} sentences, {count} tokens, none unknown, each sentence with its end"
    )


def check_target_text(patient: Patient) -> Finding:
    """Whether translations survive decoding and tokenising as targets; tokenising as sources would change them."""
    name = "target text"
    translated = [t.text for t in patient.translations if t.text.strip() and "\N{REPLACEMENT CHARACTER}" not in t.text]
    if not translated:
        return Finding(name, "not examined", "no translation is readable text")
    ids = [list(row) for row in patient.tokenizer(text_target=translated, verbose=False)["input_ids"]]
    problems = text_problems(patient, ids)
    again = patient.tokenizer.batch_decode(ids, skip_special_tokens=True)
    changed = [one for one, other in zip(translated, again, strict=True) if one.split() != other.split()]
    if len(changed) * 2 > len(translated):
        problems.append(f"{len(changed)} of {len(translated)} translations change when tokenised as targets")
    if problems:
        remedy = (
            "Targets may have been tokenised as sources: tokenise them with `text_target=`, with the tokenizer that "
            "the model was trained with."
        )
        return Finding(name, "fail", "; ".join(problems), remedy)
    return Finding(name, "pass", f"{len(translated)} translations stay the same when tokenised as targets")


def text_problems(patient: Patient, rows: list[list[int]]) -> list[str]:
    """Find problems with the token ids of sentences."""
    unknown, eos = patient.tokenizer.unk_token_id, patient.tokenizer.eos_token_id
    problems = []
    if eos is None:
        problems.append("the tokenizer has no end-of-sentence token")
    elif endless := [row for row in rows if eos not in row[-2:]]:  # a language code may follow
        problems.append(f"{len(endless)} of {len(rows)} sentences do not end with `{patient.tokenizer.eos_token}`")
    unknown_tokens = 0 if unknown is None else sum(row.count(unknown) for row in rows)
    if unknown_tokens * 10 > sum(map(len, rows)):
        problems.append(f"{unknown_tokens} of {sum(map(len, rows))} tokens are `{patient.tokenizer.unk_token}`")
    return problems
