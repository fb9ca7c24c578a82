"""What a page says of a model is what it computes: the page's data, read back, against an eager forward pass."""

import sys
from typing import Any

import pytest
import torch
from illustrations import data_of
from tiny import lively_model, tiny_model
from transformers import T5Config, T5ForConditionalGeneration

from hf_vanilla_transformer import Translator, illustrate
from hf_vanilla_transformer.illustration.anatomy import UnknownParts, take_layers_apart
from hf_vanilla_transformer.illustration.quantising import restore
from hf_vanilla_transformer.illustration.recording import record
from hf_vanilla_transformer.model import fast_path
from hf_vanilla_transformer.model.loss import label_smoothed_cross_entropy
from hf_vanilla_transformer.tokenization import train_tokenizer

TEXT, TARGET = "je suis étudiant", "i am a student"
POST, PRE = {"normalize_before": False}, {"normalize_before": True}


@pytest.fixture(scope="module")
def tokenizer(sentences) -> Any:
    return train_tokenizer(sentences * 2, vocab_size=300)


def model_for(tokenizer: Any, **overrides: Any) -> Any:
    """A model of differing sizes whose translations vary; it decodes with three beams and the paper's penalty."""
    model = lively_model(vocab_size=len(tokenizer), label_smoothing=0.1, **overrides)
    with torch.no_grad():  # so that norms, biases and scales can be told from none
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.generation_config.num_beams = 3
    model.generation_config.gnmt_length_penalty = 0.6
    model.generation_config.max_extra_tokens = 3
    return model


class Shown:
    """The numbers of one page."""

    def __init__(self, model: Any, tokenizer: Any, **settings: Any) -> None:
        self.data = data_of(illustrate(model, tokenizer, TEXT, TARGET, **settings).html)
        self.source = torch.tensor([[token["id"] for token in self.data["source"]["tokens"]]])
        self.inputs = torch.tensor([[token["id"] for token in self.data["inputs"]]])
        self.outputs = [token["id"] for token in self.data["target"]["tokens"]]

    def check(self, written: dict[str, Any], tensor: torch.Tensor) -> None:
        """Each number is within the rounding that the page states."""
        again = restore(written)
        assert again.shape == tuple(tensor.shape)
        off = (torch.tensor(again.values).view(again.shape) - tensor).abs().max()
        assert off <= written["step"] / 2 + 1e-5
        assert written["step"] < 0.001  # small models are shown finely


@torch.no_grad()
def run(model: Any, shown: Shown) -> Any:
    model.set_attn_implementation("eager")
    return model(
        shown.source,
        decoder_input_ids=shown.inputs,
        output_attentions=True,
        output_hidden_states=True,
        use_cache=False,
    )


@pytest.mark.parametrize("overrides", [POST, PRE], ids=["post-norm", "pre-norm"])
def test_every_array_is_the_models(tokenizer, overrides):
    model = model_for(tokenizer, **overrides)
    shown = Shown(model, tokenizer)
    assert shown.data["missing"] == {}
    outputs = run(model, shown)
    weights = {
        "encoder": outputs.encoder_attentions,
        "decoder": outputs.decoder_attentions,
        "cross": outputs.cross_attentions,
    }
    hidden = {"encoder": outputs.encoder_hidden_states, "decoder": outputs.decoder_hidden_states}
    for kind, layers in weights.items():
        for written, expected in zip(shown.data["attention"][kind]["layers"], layers, strict=True):
            shown.check(written["weights"], expected[0])
    for side, states in hidden.items():
        layers = getattr(model.model, side).layers
        for index, layer in enumerate(shown.data["layers"][side]):
            shown.check(layer["stages"][0]["values"], states[index][0])
            if index + 1 < len(layers):  # the last of `transformers`' hidden states has the stack's own LayerNorm
                shown.check(layer["stages"][-1]["values"], states[index + 1][0])
        shown.check(shown.data["embeddings"][side]["total"], states[0][0])
    embedded = model.model.shared(shown.source[0]) * 32**0.5
    shown.check(shown.data["embeddings"]["encoder"]["tokens"], embedded)
    shown.check(shown.data["positions"]["values"], model.model.encoder.embed_positions(torch.arange(64)))


def test_queries_keys_and_values_are_the_projections_of_what_enters(tokenizer):
    model = model_for(tokenizer)
    shown = Shown(model, tokenizer)
    outputs = run(model, shown)
    x = outputs.decoder_hidden_states[1][0]
    layer = model.model.decoder.layers[1]
    encoded = outputs.encoder_last_hidden_state[0]
    normed = layer.self_attn_layer_norm(
        x + layer.self_attn.out_proj(_joined(shown.data["attention"]["decoder"]["layers"][1]))
    )
    cases = {"decoder": (layer.self_attn, x, x), "cross": (layer.encoder_attn, normed, encoded)}
    for kind, (module, asking, asked) in cases.items():
        written = shown.data["attention"][kind]["layers"][1]
        query, key, value = (
            projection(states).view(len(states), 2, 16).transpose(0, 1)
            for projection, states in ((module.q_proj, asking), (module.k_proj, asked), (module.v_proj, asked))
        )
        close = {"rtol": 0, "atol": 2e-3}
        torch.testing.assert_close(_tensor(written["query"]), query, **close)
        torch.testing.assert_close(_tensor(written["key"]), key, **close)
        torch.testing.assert_close(_tensor(written["value"]), value, **close)
        torch.testing.assert_close(_tensor(written["scores"]), query @ key.transpose(1, 2) / 4, **close)
        torch.testing.assert_close(_tensor(written["output"]), _tensor(written["weights"]) @ value, **close)
    assert shown.data["attention"]["cross"]["scaling"] == 0.25


def _tensor(written: dict[str, Any]) -> torch.Tensor:
    array = restore(written)
    return torch.tensor(array.values).view(array.shape)


def _joined(written: dict[str, Any]) -> torch.Tensor:
    return _tensor(written["output"]).transpose(0, 1).flatten(1)


def test_the_stages_of_a_layer_are_figure_1_in_order(tokenizer):
    attention = ["heads", "projected", "sum", "norm"]
    network = ["inner", "output", "sum", "norm"]
    before = ["norm", "heads", "projected", "sum"]
    expected = {
        "encoder": (["input", *attention, *network], ["input", *before, "norm", "inner", "output", "sum"]),
        "decoder": (
            ["input", *attention, *attention, *network],
            ["input", *before, *before, "norm", "inner", "output", "sum"],
        ),
    }
    for place, overrides in enumerate((POST, PRE)):
        data = Shown(model_for(tokenizer, **overrides), tokenizer).data
        for side, orders in expected.items():
            stages = data["layers"][side][0]["stages"]
            assert [stage["kind"] for stage in stages] == orders[place]


def test_layernorm_and_relu_are_described_truly(tokenizer):
    model = model_for(tokenizer)
    shown = Shown(model, tokenizer)
    stages = shown.data["layers"]["encoder"][0]["stages"]
    total, norm, inner = _tensor(stages[3]["values"]), stages[4], stages[5]
    torch.testing.assert_close(torch.tensor(norm["mean"]), total.mean(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(norm["deviation"]), total.std(-1, correction=0), atol=1e-3, rtol=0)
    assert inner["width"] == 64
    step = inner["values"]["step"]
    assert inner["active"] == (_tensor(inner["values"]) > step * 0.6).sum(-1).tolist()


def test_steps_are_the_softmax_of_the_models_logits(tokenizer):
    model = model_for(tokenizer)
    shown = Shown(model, tokenizer)
    logits = run(model, shown).logits[0]
    assert len(shown.data["steps"]) == len(logits)
    for row, step, wanted in zip(logits, shown.data["steps"], shown.outputs, strict=True):
        probabilities = row.softmax(-1)
        best = row.topk(12).indices.tolist()
        assert [candidate["token"]["id"] for candidate in step["candidates"][:12]] == best
        assert step["chosen"]["token"]["id"] == wanted
        for candidate in [step["chosen"], *step["candidates"]]:
            index = candidate["token"]["id"]
            assert candidate["logit"] == pytest.approx(float(row[index]), abs=1e-4)
            assert candidate["probability"] == pytest.approx(float(probabilities[index]), abs=1e-5)
        listed = sum(candidate["probability"] for candidate in step["candidates"])
        assert listed + step["rest"] == pytest.approx(1.0, abs=1e-5)
        assert step["others"] + len(step["candidates"]) == len(row) == sum(step["histogram"])
        assert (step["lowest"], step["highest"]) == pytest.approx((float(row.min()), float(row.max())), abs=1e-4)


# The beam


def path_of(beam: dict[str, Any], index: int) -> list[int]:
    """Ids of a hypothesis."""
    ids = []
    while index >= 0:
        ids.insert(0, beam["nodes"][index]["token"]["id"])
        index = beam["nodes"][index]["parent"]
    return ids


PENALTIES = [
    {"gnmt_length_penalty": 0.6},
    {"length_penalty": 2.0},
    {"num_beams": 1},
    {"num_beams": 5, "early_stopping": True},
    {"max_new_tokens": 2},
]


@pytest.mark.parametrize("settings", PENALTIES, ids=str)
@pytest.mark.parametrize("seed", [0, 3])
def test_the_best_leaf_is_what_generate_returned_with_its_score(tokenizer, settings, seed):
    model = model_for(tokenizer, seed=seed)
    shown = Shown(model, tokenizer, **settings)
    beam = shown.data["beam"]
    alone = model.generate(shown.source, return_dict_in_generate=True, **settings)
    returned = alone.sequences[0, 1:].tolist()
    path = path_of(beam, beam["best"])
    assert path == shown.outputs == returned[: len(path)]
    assert set(returned[len(path) :]) <= {model.config.pad_token_id}
    if settings.get("num_beams") != 1:
        assert beam["score"] == pytest.approx(float(alone.sequences_scores[0]), abs=1e-4)
        assert beam["nodes"][beam["best"]]["score"] == pytest.approx(beam["score"], abs=1e-4)
    else:
        assert beam["score"] == pytest.approx(float(alone.token_log_probabilities.sum()), abs=1e-4)


def test_totals_add_up_along_the_tree_and_as_many_as_beams_are_kept(tokenizer):
    model = model_for(tokenizer)
    shown = Shown(model, tokenizer)
    nodes = shown.data["beam"]["nodes"]
    for node in nodes:
        before = nodes[node["parent"]] if node["parent"] >= 0 else {"total": 0.0, "step": 0, "fate": "kept"}
        assert node["total"] == pytest.approx(before["total"] + node["log_probability"], abs=1e-4)
        assert node["step"] == before["step"] + 1
        assert before["fate"] == "kept"
        assert (node["score"] is not None) == (node["fate"] == "finished")
    steps = max(node["step"] for node in nodes)
    for step in range(1, steps + 1):
        fates = [node["fate"] for node in nodes if node["step"] == step]
        assert len(fates) <= 6
        assert fates.count("kept") == (3 if step < steps else 0)


def test_a_nodes_log_probability_is_the_models(tokenizer):
    model = model_for(tokenizer)
    shown = Shown(model, tokenizer)
    beam = shown.data["beam"]
    for index in range(0, len(beam["nodes"]), 5):
        path = path_of(beam, index)
        inputs = torch.tensor([[model.config.decoder_start_token_id, *path[:-1]]])
        with torch.no_grad():
            logits = model(shown.source, decoder_input_ids=inputs).logits[0, -1]
        expected = float(logits.log_softmax(-1)[path[-1]])
        assert beam["nodes"][index]["log_probability"] == pytest.approx(expected, abs=1e-4)


def test_scores_that_hold_more_leave_the_tree_out(tokenizer):
    data = Shown(model_for(tokenizer), tokenizer, coverage_penalty=0.4).data
    assert data["beam"] is None
    assert "more than log-probabilities and a length penalty" in data["missing"]["beam"]


# Training


def test_training_compares_with_the_loss_of_training(tokenizer):
    model = model_for(tokenizer)
    shown = Shown(model, tokenizer)
    training = shown.data["training"]
    labels = torch.tensor([tokenizer(text_target=TARGET).input_ids])
    assert [token["id"] for token in training["tokens"]] == labels[0].tolist()
    with torch.no_grad():
        logits = model(shown.source, labels=labels).logits
    for position, guess in enumerate(training["trained"]):
        row, label = logits[:, position : position + 1], labels[:, position : position + 1]
        plain = float(label_smoothed_cross_entropy(row, label))
        smoothed = float(label_smoothed_cross_entropy(row, label, 0.1))
        assert -guess["log_probability"] == pytest.approx(plain, abs=1e-4)
        assert guess["smoothed_cross_entropy"] == pytest.approx(smoothed, abs=1e-4)
        target = torch.full((len(tokenizer),), 0.1 / len(tokenizer))
        target[label[0, 0]] += 0.9
        kl = torch.nn.functional.kl_div(row[0, 0].log_softmax(-1), target, reduction="sum")
        assert guess["smoothed_kl"] == pytest.approx(float(kl), abs=1e-4)
        shares = [float(row[0, 0].softmax(-1)[token["id"]]) for token in training["columns"]]
        assert guess["columns"] == pytest.approx(shares, abs=1e-5)


def test_the_untrained_model_is_another_one_of_the_same_shape(tokenizer):
    model = model_for(tokenizer)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (Shown(model, tokenizer).data["training"]["untrained"] for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    mean = sum(-guess["log_probability"] for guess in first) / len(first)
    assert mean == pytest.approx(float(torch.tensor(len(tokenizer)).log()), rel=0.35)  # near a uniform guess


def test_the_alignment_joins_tokens_to_words(tokenizer):
    model = model_for(tokenizer)
    text = "je ne dessine pas"  # words that the vocabulary has only in pieces
    data = data_of(illustrate(model, tokenizer, text, TARGET).html)
    training = data["training"]
    assert training["source_words"] == [*text.split(), "</s>"]
    assert len(data["source"]["tokens"]) > len(training["source_words"])
    alignment = _tensor(training["alignment"])
    assert alignment.shape == (2, len(training["target_words"]), len(training["source_words"]))
    torch.testing.assert_close(alignment.sum(-1), torch.ones(alignment.shape[:2]), atol=1e-3, rtol=0)


# Any encoder-decoder


def test_marian_shows_everything(tmp_path):
    originals = pytest.importorskip("originals")
    tokenizer = originals.marian_tokenizer(tmp_path / "marian")
    model = originals.marian(vocab_size=len(tokenizer))
    data = data_of(illustrate(model, tokenizer, TEXT, TARGET).html)
    assert data["missing"] == {}
    inputs = torch.tensor([[token["id"] for token in data["source"]["tokens"]]])
    alone = model.generate(inputs, return_dict_in_generate=True, output_scores=True)
    assert data["beam"]["score"] == pytest.approx(float(alone.sequences_scores[0]), abs=1e-4)
    path = path_of(data["beam"], data["beam"]["best"])
    assert alone.sequences[0, 1 : 1 + len(path)].tolist() == path
    assert len(data["layers"]["decoder"]) == 3


def test_t5_shows_what_it_gives_and_says_what_it_does_not(tokenizer):
    torch.manual_seed(0)
    config = T5Config(
        **{"vocab_size": len(tokenizer), "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        **{"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0},
    )
    model = T5ForConditionalGeneration(config).eval()
    model.generation_config.num_beams = 2
    model.generation_config.max_new_tokens = 5
    model.set_attn_implementation("eager")
    attentions = model.encoder(torch.tensor([[5, 2]]), output_attentions=True).attentions
    if not attentions or attentions[0] is None:
        pytest.skip("T5 of this version of transformers returns no attention weights")
    data = data_of(illustrate(model, tokenizer, TEXT, TARGET).html)
    assert set(data["missing"]) == {"projections", "layers", "embeddings", "positions"}
    assert "T5ForConditionalGeneration" in data["missing"]["layers"]
    assert _tensor(data["attention"]["cross"]["layers"][1]["weights"]).shape == (
        *(4, len(data["inputs"]), len(data["source"]["tokens"])),
    )
    assert data["beam"]["nodes"]
    assert len(data["training"]["trained"]) == len(data["training"]["tokens"])


def test_fsmt_shows_everything(tokenizer):
    originals = pytest.importorskip("originals")
    size = len(tokenizer)
    model = originals.fsmt(src_vocab_size=size, tgt_vocab_size=size)
    data = data_of(illustrate(model, tokenizer, TEXT, TARGET).html)
    assert data["missing"] == {}
    assert "fairseq" in data["positions"]["name"]


def test_a_model_in_bfloat16_shows_everything(tokenizer):
    data = data_of(illustrate(model_for(tokenizer).to(torch.bfloat16), tokenizer, TEXT, TARGET).html)
    assert data["missing"] == {}


def test_layers_that_do_something_else_are_not_shown_as_the_papers(tokenizer):
    model = model_for(tokenizer)
    model.model.encoder.layers[1].register_forward_hook(lambda module, args, output: output * 1.5)
    recording = record(model, [5, 6, 2], [1, 7])
    with pytest.raises(UnknownParts, match="compute more than the paper's"):
        take_layers_apart(model, recording)


def test_the_model_is_left_as_it_was(tokenizer):
    model = model_for(tokenizer)
    model.set_attn_implementation("sdpa")
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    illustrate(model, tokenizer, TEXT, TARGET)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()
    assert model.generate(torch.tensor([[5, 6, 2]]), return_dict_in_generate=True).search_path == "fast"
    again = model(torch.tensor([[5, 6, 2]]), decoder_input_ids=torch.tensor([[1]]), output_attentions=True)
    assert again.cross_attentions[0].shape == (1, 2, 1, 3)


# What the caller meets


@pytest.mark.parametrize(
    ("text", "target", "error", "message"),
    [
        ("", None, ValueError, "`text` must be a sentence, but it is empty"),
        ("   ", None, ValueError, "`text` must be a sentence, but it is empty"),
        (["merci"], None, TypeError, "`text` must be one sentence, a string, got"),
        ("merci", 5, TypeError, "`target` must be one sentence, a string, got 5"),
        ("merci " * 200, None, ValueError, "at most 128 tokens, but `text` has 1,002"),
        ("merci", "thanks " * 200, ValueError, "at most 128 tokens, but `target` has 1,002"),
        ("half \ud83d", None, ValueError, "`text` holds half of a surrogate pair"),
    ],
)
def test_what_is_no_sentence_is_refused(tokenizer, text, target, error, message):
    with pytest.raises(error, match=message):
        illustrate(tiny_model(vocab_size=len(tokenizer)), tokenizer, text, target)


def test_a_notebook_shows_the_page_in_a_frame_that_can_reach_nothing(tokenizer):
    illustration = illustrate(model_for(tokenizer), tokenizer, TEXT, name='<b>"quoted"</b>')
    shown = illustration._repr_html_()
    assert shown.startswith('<iframe sandbox="allow-scripts" srcdoc="')
    assert shown.count("<iframe") == 1
    assert shown.count('"') == 8  # those of the four attributes, none of the page's
    assert "<script" not in shown
    assert data_of(illustration.html)["model"] == '<b>"quoted"</b>'


def test_a_page_is_saved_whole_or_not_at_all(tokenizer, tmp_path):
    illustration = illustrate(model_for(tokenizer), tokenizer, TEXT)
    assert illustration.save(tmp_path / "page.html").read_text(encoding="utf-8") == illustration.html
    with pytest.raises(IsADirectoryError, match="Name a file in it"):
        illustration.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere for the page"):
        illustration.save(tmp_path / "nowhere" / "page.html")
    for name in ("page.pdf", "page"):
        with pytest.raises(ValueError, match=rf"{name} does not end in \.html"):
            illustration.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_replaces_an_earlier_page_and_no_other_file(tokenizer, tmp_path):
    page, other = tmp_path / "page.HTML", tmp_path / "other.html"
    illustrate(model_for(tokenizer), tokenizer, "merci").save(page)
    illustration = illustrate(model_for(tokenizer), tokenizer, TEXT)
    assert illustration.save(page).read_text(encoding="utf-8") == illustration.html
    other.write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="may replace only an earlier page"):
        illustration.save(other)
    assert other.read_text(encoding="utf-8") == "mine"


def test_at_a_prompt_it_is_one_line_of_facts_and_its_parts_are_short(tokenizer):
    illustration = illustrate(model_for(tokenizer), tokenizer, TEXT, name="a\nname")
    shown, contents = repr(illustration), illustration.contents
    assert shown.startswith("<Illustration of 'a\\nname' (VanillaTransformerForConditionalGeneration, ")
    assert f"{len(contents.source)} source and {len(contents.target)} target tokens" in shown
    assert len(shown.splitlines()) == 1
    assert len(shown) < 250
    assert "html" not in vars(illustration)  # a glance builds no page
    assert len(repr(contents.attention)) < 10_000


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_model_that_our_search_decodes_is_decoded_by_it(tokenizer, monkeypatch, num_beams):
    """Nobody who asked for nothing is told of another search."""
    monkeypatch.setattr(fast_path.logger, "warning_once", lambda message: pytest.fail(message))
    illustrate(model_for(tokenizer), tokenizer, TEXT, num_beams=num_beams)


def test_pieces_of_letters_are_shown_as_their_bytes(tokenizer):
    data = data_of(illustrate(model_for(tokenizer), tokenizer, "😀 é").html)
    texts = [token["text"] for token in data["source"]["tokens"]]
    assert "‹F0›" in texts
    assert not any("\N{REPLACEMENT CHARACTER}" in text for text in texts)


def test_the_translation_is_the_translators(tiny_model_folder):
    translator = Translator.from_pretrained(tiny_model_folder)
    illustration = illustrate(translator.model, translator.tokenizer, TEXT)
    assert illustration.contents.target_text == translator.translate([TEXT])[0].text


def test_the_page_builder_is_imported_without_torch_of_its_own():
    """Its own imports are the standard library's; that of the package's root is another matter (import-linter)."""
    import hf_vanilla_transformer.illustration.page as page

    names = {getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in vars(page).values()}
    roots = {name.split(".")[0] for name in names if name}
    assert roots <= {*sys.stdlib_module_names, "hf_vanilla_transformer", "builtins"}
