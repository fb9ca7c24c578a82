"""Contents of pages made by hand, text that attacks pages, and pages read back."""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from hf_vanilla_transformer.illustration.contents import (
    Array,
    Attention,
    Beam,
    Candidate,
    Contents,
    Embeddings,
    Guess,
    Heads,
    Layer,
    Node,
    Positions,
    Stage,
    Step,
    Token,
    Training,
)
from hf_vanilla_transformer.illustration.positional_encodings import interleaved

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=2>",
    "\"'`><svg onload=window.hacked=3>",
    "line\u2028and\u2029paragraph",
    "שלום\u202eدنيا",
    "👩‍👩‍👧‍👦🇫🇷",
    "\u0301\u0327e\u0301",
    "{{7*7}} ${window.hacked=4} <!-- page:script --> -->",
    "&lt;b&gt; &amp;",
    "a\tb  c",
)
WORDS = ("je", "suis", "étudiant", "</s>")


def random_array(*shape: int) -> Array:
    """Numbers between -2 and 2, always the same for one shape."""
    generator = random.Random(str(shape))
    size = 1
    for length in shape:
        size *= length
    return Array(shape, [generator.uniform(-2, 2) for _ in range(size)])


def even(*shape: int) -> Array:
    """Weights that are all alike and add up to 1."""
    return Array(shape, [1 / shape[-1]] * len(random_array(*shape).values))


def data_of(page: str) -> dict[str, Any]:
    """The JSON that a page's script reads."""
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def hand_made(
    tokens: Sequence[str] = WORDS,
    model: str = "a model",
    layers: int = 2,
    heads: int = 2,
    d_k: int = 8,
    d_ff: int = 24,
) -> Contents:
    """Contents of which every section has something to show."""
    named = [Token(text, index, continues=index == 2) for index, text in enumerate(tokens)]
    count, width = len(named), heads * d_k
    attention = Attention([_heads(count, heads, d_k) for _ in range(layers)], d_k**-0.5)
    steps = [_step(named, index) for index in range(count)]
    return Contents(
        model=model,
        facts=[("parameters", "1,234"), ("class", model)],
        source_text=" ".join(tokens),
        source=named,
        target_text=" ".join(tokens),
        target=named,
        decoder_inputs=named,
        attention={"encoder": attention, "decoder": attention, "cross": attention},
        steps=steps,
        layers={side: [_layer(count, width, d_ff) for _ in range(layers)] for side in ("encoder", "decoder")},
        embeddings={
            side: Embeddings(random_array(count, width), random_array(count, width), width)
            for side in ("encoder", "decoder")
        },
        positions=Positions("the paper's", interleaved(16, width)),
        beam=_beam(named),
        training=_training(named),
    )


def _heads(count: int, heads: int, d_k: int) -> Heads:
    vectors = [random_array(heads, count, d_k) for _ in range(4)]
    return Heads(even(heads, count, count), random_array(heads, count, count), *vectors)


def _layer(count: int, width: int, d_ff: int) -> Layer:
    stages = [Stage("input", "", random_array(count, width), width)]
    for sublayer, kinds in (("self-attention", ("heads", "projected")), ("feed-forward", ("inner", "output"))):
        for kind in (*kinds, "sum", "norm"):
            size = d_ff if kind == "inner" else width
            stages.append(
                Stage(kind, sublayer, random_array(count, size), size, [0.5] * count, [1.5] * count, [3] * count)
            )
    return Layer(stages, 99)


def _step(tokens: list[Token], index: int) -> Step:
    share = 1 / (len(tokens) + 1)
    candidates = [Candidate(token, 1.0, share) for token in tokens]
    return Step(candidates[index], candidates, share, 90, [1, 5, 2], -3.0, 4.0)


def _beam(tokens: list[Token]) -> Beam:
    nodes = []
    for step, token in enumerate(tokens, start=1):
        parent = 2 * (step - 2) if step > 1 else -1
        last = step == len(tokens)
        nodes.append(
            Node(step, parent, token, -0.5, -0.5 * step, "finished" if last else "kept", -0.5 if last else None)
        )
        nodes.append(Node(step, parent, tokens[0], -2.0, -0.5 * step - 1.5, "pruned"))
    best = len(nodes) - 2
    return Beam(2, "tokens", nodes, best, -0.5, [best])


def _training(tokens: list[Token]) -> Training:
    share = 1 / (len(tokens) + 1)
    guess = Guess(-1.0, 1.5, 0.7, [share] * len(tokens), [Candidate(token, 1.0, share) for token in tokens[:3]])
    words = [token.text for token in tokens]
    return Training(
        " ".join(words), tokens, tokens, 0.1, 100, [guess] * len(tokens), [guess] * len(tokens), words, words,
        even(2, len(tokens), len(tokens)),
    )  # fmt: skip
