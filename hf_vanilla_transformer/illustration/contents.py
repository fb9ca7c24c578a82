"""What a page shows, as plain lists and tokens: any encoder-decoder whose arrays can be written so can be shown.

Neither torch nor transformers is known here. Sizes use: source_len, target_len (decoder inputs, which are as many as
outputs), heads, d_k, d_v, d_model, shown (the first dimensions of a long vector).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod


@dataclass(frozen=True)
class Token:
    """One token as a reader sees it.

    Attributes:
        text: what it stands for, without the space before it.
        id: its row of the vocabulary.
        continues: whether it goes on with the word that the token before it began.
    """

    text: str
    id: int
    continues: bool = False


@dataclass(frozen=True)
class Array:
    """Numbers in rows: `values` has the product of `shape` entries, the last axis fastest.

    Raises:
        ValueError: it has not.
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
        scaling: what scores are multiplied by, 1 / sqrt(d_k) in the paper; None if it is not known.
    """

    layers: Sequence[Heads]
    scaling: float | None = None


@dataclass(frozen=True)
class Stage:
    """A vector for each token at one place inside a layer (figure 1).

    Attributes:
        kind: `input`, `heads` (joined), `projected` (times W^O), `inner` (of the feed-forward network), `output` (of
            it), `sum` (with the residual) or `norm` (after LayerNorm).
        sublayer: `self-attention`, `encoder-decoder attention`, `feed-forward`, or empty for the input.
        values: (tokens, shown).
        width: of the whole vectors.
        mean, deviation: over the whole vector of each token; the deviation divides by `width`, as LayerNorm does.
        active: of `inner`: how many of each token's entries are not zero.
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
    """One layer from inside: its stages in order, and how many numbers it has learned."""

    stages: Sequence[Stage]
    parameters: int = 0


@dataclass(frozen=True)
class Embeddings:
    """What enters a stack (sections 3.4 and 3.5).

    Attributes:
        tokens: rows of the embedding matrix as they are added to the positions, scaled; (tokens, shown).
        total: with the positional encoding; likewise.
        width: d_model.
    """

    tokens: Array
    total: Array
    width: int


@dataclass(frozen=True)
class Positions:
    """The positional encoding in use (section 3.5).

    Attributes:
        name: of the convention, for a reader.
        values: (positions, d_model).
    """

    name: str
    values: Array


@dataclass(frozen=True)
class Candidate:
    """A word that the model considered: its logit and its probability."""

    token: Token
    logit: float
    probability: float


@dataclass(frozen=True)
class Step:
    """The distribution over the vocabulary at one output position (section 3.4).

    Attributes:
        chosen: what the translation has there.
        candidates: the likeliest, best first, and the chosen one even if it is not among them.
        rest: probability of all others together.
        others: how many they are.
        histogram: logits of the whole vocabulary, counted in equal intervals from `lowest` to `highest`.
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
        step: tokens it has, from 1.
        parent: index of the hypothesis that it continues, -1 for the start.
        token: the one it adds.
        log_probability: of that token, natural logarithm.
        total: of all its tokens.
        fate: `kept`, `pruned`, `finished` (kept for the end), or `stopped` (alive when the search ended).
        score: of a finished one, normalised by its length.
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
        penalty: how scores are normalised, for a reader.
        nodes: parents before children.
        best: index of the hypothesis that was returned.
        score: that `generate` returned for it.
        returned: what it returned, best first, indices of `nodes`.
    """

    width: int
    penalty: str
    nodes: Sequence[Node]
    best: int
    score: float
    returned: Sequence[int] = ()


@dataclass(frozen=True)
class Guess:
    """A model's output at one position of a given target, set against what was wanted (section 5.4).

    Attributes:
        log_probability: of the wanted token; its negative is the cross-entropy with the one-hot target, and the KL
            divergence from it too, in nats.
        smoothed_cross_entropy: with the smoothed target.
        smoothed_kl: KL divergence of the output from the smoothed target.
        columns: probabilities of the tokens of `Training.columns`.
        candidates: the likeliest words.
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
        tokens: with the end of sentence.
        columns: each token of the target once, in order of appearance.
        smoothing: epsilon of the smoothed target.
        vocabulary: size of the target's.
        untrained, trained: a guess for each token; of a freshly initialised model of the same shape, and of this one.
        source_words, target_words: words that tokens were joined to.
        alignment: for each decoder layer the attention of target words to source words, mean over heads;
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
    """All that a page shows. What a model does not give is None, and `missing` says why.

    Attributes:
        model: its name.
        facts: pairs of a label and a value, both shown as they are.
        source_text, source: the sentence and its tokens.
        target_text, target: the translation and its tokens, those that the decoder gave.
        decoder_inputs: what the decoder read, as many: the start token, then all outputs but the last.
        attention: by `encoder`, `decoder` and `cross` (encoder-decoder).
        layers: of `encoder` and `decoder`, from the bottom up.
        embeddings: likewise.
        sublayers: of one layer of each, by the names of figure 1.
        missing: a sentence for each of `projections`, `layers`, `embeddings`, `positions`, `beam`, where they are.
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
