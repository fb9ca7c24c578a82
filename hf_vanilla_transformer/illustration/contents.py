"""What a page shows, as plain lists and tokens, for any encoder-decoder.

This file needs neither torch nor transformers. Sizes use: source_len, target_len (number of decoder inputs, equal to
that of outputs), heads, d_k, d_v, d_model, shown (the first dimensions of a long vector).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod


@dataclass(frozen=True)
class Token:
    """One token as a reader sees it.

    Attributes:
        text: its text, without the space before it.
        id: its id in the vocabulary.
        continues: whether it continues the word of the token before it.
    """

    text: str
    id: int
    continues: bool = False


@dataclass(frozen=True)
class Array:
    """A flat array in row-major order: `values` has as many entries as `shape` requires.

    Raises:
        ValueError: the number of values does not match `shape`.
    """

    shape: tuple[int, ...]
    values: Sequence[float] = field(repr=False)

    def __post_init__(self) -> None:
        if prod(self.shape) != len(self.values):
            raise ValueError(
                f"An array of shape {self.shape} has {prod(self.shape):,} values, but {len(self.values):,} were given."
            )


@dataclass(frozen=True)
class Heads:
    """What the heads of one attention sub-layer computed (sections 3.2.1 and 3.2.2).

    Attributes:
        weights: softmax of the scores, (heads, queries, keys).
        scores: query times key, divided by the square root of d_k, before the mask; of the same shape.
        query, key: (heads, queries or keys, d_k).
        value: (heads, keys, d_v).
        output: weights times values, (heads, queries, d_v).

    All but the weights may be None, for models whose projections cannot be read.
    """

    weights: Array
    scores: Array | None = None
    query: Array | None = None
    key: Array | None = None
    value: Array | None = None
    output: Array | None = None


@dataclass(frozen=True)
class Attention:
    """One of the three uses of attention (section 3.2.3) in all layers.

    Attributes:
        layers: from the bottom up.
        scaling: factor of the scores, 1 / sqrt(d_k) in the paper; None if unknown.
    """

    layers: Sequence[Heads]
    scaling: float | None = None


@dataclass(frozen=True)
class Stage:
    """A vector for each token at one place inside a layer (figure 1).

    Attributes:
        kind: `input`, `heads` (concatenated), `projected` (times W^O), `inner` (hidden layer of the feed-forward
            network), `output` (its output), `sum` (with the residual) or `norm` (after LayerNorm).
        sublayer: `self-attention`, `encoder-decoder attention`, `feed-forward`, or empty for the input.
        values: (tokens, shown).
        width: full width of the vectors.
        mean, deviation: over the full vector of each token; the deviation divides by `width`, as LayerNorm does.
        active: only for `inner`: number of non-zero entries per token.
    """

    kind: str
    sublayer: str
    values: Array
    width: int
    mean: Sequence[float] = ()
    deviation: Sequence[float] = ()
    active: Sequence[int] = ()


@dataclass(frozen=True)
class Layer:
    """The inside of one layer: its stages in order, and its number of parameters."""

    stages: Sequence[Stage]
    parameters: int = 0


@dataclass(frozen=True)
class Embeddings:
    """The input of a stack (sections 3.4 and 3.5).

    Attributes:
        tokens: scaled embeddings, before positions are added; (tokens, shown).
        total: their sum with the positional encoding; (tokens, shown).
        width: d_model.
    """

    tokens: Array
    total: Array
    width: int


@dataclass(frozen=True)
class Positions:
    """The positional encoding in use (section 3.5).

    Attributes:
        name: readable name of the convention.
        values: (positions, d_model).
    """

    name: str
    values: Array


@dataclass(frozen=True)
class Candidate:
    """A token that the model considered: its logit and its probability."""

    token: Token
    logit: float
    probability: float


@dataclass(frozen=True)
class Step:
    """The distribution over the vocabulary at one output position (section 3.4).

    Attributes:
        chosen: the token of the translation.
        candidates: the likeliest tokens, best first, and the chosen one even if it is not among them.
        rest: total probability of all other tokens.
        others: number of other tokens.
        histogram: histogram of the logits of the whole vocabulary, in equal intervals from `lowest` to `highest`.
    """

    chosen: Candidate
    candidates: Sequence[Candidate]
    rest: float
    others: int
    histogram: Sequence[int]
    lowest: float
    highest: float


@dataclass(frozen=True)
class Node:
    """A partial hypothesis of beam search.

    Attributes:
        step: number of its tokens, from 1.
        parent: index of the hypothesis that it continues, -1 for the start.
        token: the token it adds.
        log_probability: log-probability of that token, natural logarithm.
        total: sum of the log-probabilities of all its tokens.
        fate: `kept`, `pruned`, `finished` (ended and kept), or `stopped` (active when the search ended).
        score: score of a finished hypothesis, normalised by its length.
    """

    step: int
    parent: int
    token: Token
    log_probability: float
    total: float
    fate: str
    score: float | None = None


@dataclass(frozen=True)
class Beam:
    """The tree of a beam search (section 6.1).

    Attributes:
        width: hypotheses kept at each step.
        penalty: readable description of the length normalisation.
        nodes: hypotheses, parents before children.
        best: index of the best returned hypothesis.
        score: the score that `generate` returned for it.
        returned: indices of all returned hypotheses, best first.
    """

    width: int
    penalty: str
    nodes: Sequence[Node]
    best: int
    score: float
    returned: Sequence[int] = ()


@dataclass(frozen=True)
class Guess:
    """A model's output at one position of a given target, compared with that target (section 5.4).

    Attributes:
        log_probability: log-probability of the target token; its negative is both the cross-entropy with the one-hot
            target and the KL divergence from it, in nats.
        smoothed_cross_entropy: cross-entropy with the smoothed target.
        smoothed_kl: KL divergence of the output from the smoothed target.
        columns: probabilities of the tokens in `Training.columns`.
        candidates: the likeliest tokens.
    """

    log_probability: float
    smoothed_cross_entropy: float
    smoothed_kl: float
    columns: Sequence[float]
    candidates: Sequence[Candidate]


@dataclass(frozen=True)
class Training:
    """A given translation, as training sees it.

    Attributes:
        text: the target.
        tokens: its tokens with the end of sentence.
        columns: each distinct token of the target, in order of appearance.
        smoothing: epsilon of the smoothed target.
        vocabulary: size of the target vocabulary.
        untrained, trained: a guess per token, by a freshly initialised model of the same shape and by this model.
        source_words, target_words: words made by joining tokens.
        alignment: attention of target words to source words in each decoder layer, mean over heads;
            (layers, target words, source words).
    """

    text: str
    tokens: Sequence[Token]
    columns: Sequence[Token]
    smoothing: float
    vocabulary: int
    untrained: Sequence[Guess]
    trained: Sequence[Guess]
    source_words: Sequence[str] = ()
    target_words: Sequence[str] = ()
    alignment: Array | None = None


@dataclass(frozen=True)
class Contents:
    """Everything that a page shows. Parts that a model does not provide are None, and `missing` says why.

    Attributes:
        model: name of the model.
        facts: pairs of a label and a value, both shown unchanged.
        source_text, source: the sentence and its tokens.
        target_text, target: the translation and its tokens, the decoder's outputs.
        decoder_inputs: the decoder's input, one token per output: the start token, then all outputs but the last.
        attention: by `encoder`, `decoder` and `cross` (encoder-decoder).
        layers: by `encoder` and `decoder`, from the bottom up.
        embeddings: by `encoder` and `decoder`.
        sublayers: of one layer of each stack, by the names of figure 1.
        missing: for `projections`, `layers`, `embeddings`, `positions` and `beam`, a sentence if they are missing.
    """

    model: str
    facts: Sequence[tuple[str, str]]
    source_text: str
    source: Sequence[Token]
    target_text: str
    target: Sequence[Token]
    decoder_inputs: Sequence[Token]
    attention: dict[str, Attention]
    steps: Sequence[Step]
    layers: dict[str, Sequence[Layer]] = field(default_factory=dict)
    embeddings: dict[str, Embeddings] = field(default_factory=dict)
    positions: Positions | None = None
    beam: Beam | None = None
    training: Training | None = None
    missing: dict[str, str] = field(default_factory=dict)
