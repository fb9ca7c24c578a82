"""Do the generation settings make sense for this model?"""

from transformers import GenerationConfig

from ..model.call_settings import LENGTHS as LENGTHS_OF_TRANSFORMERS
from ..model.call_settings import as_ids, settle
from ..model.configuration_vanilla_transformer import longest_sentence
from .findings import Finding, Patient

LENGTHS = (*LENGTHS_OF_TRANSFORMERS, "max_extra_tokens")


def check_settings(patient: Patient) -> Finding:
    """Whether generation_config.json has valid tokens, a length limit, and one consistent way of decoding."""
    name = "generation settings"
    settings = patient.model.generation_config
    problems = [*token_problems(patient), *length_problems(patient), *search_problems(settings)]
    if problems:
        return Finding(name, "fail", "; ".join(problems), "Correct generation_config.json in the model's folder.")
    beams = settings.num_beams or 1
    lengths = [f"{length} {getattr(settings, length)}" for length in LENGTHS if getattr(settings, length, None)]
    return Finding(name, "pass", f"{'greedy' if beams == 1 else f'{beams} beams'}, {' and '.join(lengths)}")


def token_problems(patient: Patient) -> list[str]:
    """Find special tokens that are missing, outside the vocabulary, or different from the config's."""
    settings, config = patient.model.generation_config, patient.model.config
    vocab = patient.model.get_output_embeddings().weight.shape[0]
    problems = []
    for name in (
        "decoder_start_token_id",
        "eos_token_id",
        "pad_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
    ):
        value, of_config = getattr(settings, name, None), getattr(config, name, None)
        needed = not name.startswith("forced")
        if value is None and needed:
            problems.append(f"`{name}` is not set")
        if any(not 0 <= token < vocab for token in as_ids(value)):
            problems.append(f"`{name}` {value} is outside the target vocabulary ({vocab:,})")
        if needed and None not in (value, of_config) and not set(as_ids(of_config)) <= set(as_ids(value)):
            problems.append(f"`{name}` is {value}, but {of_config} in config.json")
    return problems


def length_problems(patient: Patient) -> list[str]:
    """Find a length limit that is missing, or beyond the model's positions."""
    settings, config = patient.model.generation_config, patient.model.config
    given = {name: getattr(settings, name, None) for name in LENGTHS}
    problems = []
    if all(length is None for length in given.values()):
        problems.append(f"no length limit is set ({', '.join(LENGTHS)}): `generate` stops after 20 tokens")
    positions = longest_sentence(config)
    longest = given["max_length"]
    if longest is not None and positions is not None and longest > positions:
        problems.append(f"`max_length` {longest:,} is beyond the model's {positions:,} positions")
    problems += [f"`{name}` is {length}" for name, length in given.items() if length is not None and length < 1]
    return problems


def search_problems(settings: GenerationConfig) -> list[str]:
    """Find settings that contradict each other or do not suit translation."""
    try:
        settled = settle({}, None, settings)
    except ValueError as error:
        return [str(error).rstrip(".")]
    samples = settled.values.get("do_sample")
    return ["`do_sample` is true: translations would be random"] if samples else []
