"""Resizing of vocabularies: the embeddings of one or both sides, and the output projection with them."""

from typing import Any

from torch import nn


class ResizableEmbeddings:
    """Mixin for the model without its head."""

    config: Any
    encoder: Any
    decoder: Any

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As in `PreTrainedModel`. With separate vocabularies, this resizes the source embeddings only."""
        if not self.config.share_encoder_decoder_embeddings:
            embeddings = self.encoder.resize_token_embeddings(*args, **kwargs)
            self.vocab_size = embeddings.num_embeddings
            return embeddings
        embeddings = super().resize_token_embeddings(*args, **kwargs)  # type: ignore[misc]
        self.config.decoder_vocab_size = embeddings.num_embeddings
        return embeddings

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize the target embeddings of a model with separate vocabularies.

        Raises:
            ValueError: source and target share one vocabulary.
        """
        if self.config.share_encoder_decoder_embeddings:
            raise ValueError(
                "Source and target share one embedding matrix (`share_encoder_decoder_embeddings=True`): call "
                "`resize_token_embeddings`, which resizes it for both."
            )
        vocab_size = self.config.vocab_size  # the source's, which the decoder overwrites with its own
        embeddings = self.decoder.resize_token_embeddings(new_num_tokens)
        self.config.vocab_size, self.config.decoder_vocab_size = vocab_size, embeddings.num_embeddings
        return embeddings


class ResizableOutput:
    """Mixin for the model with its head: the output projection follows the target embeddings."""

    config: Any
    model: Any
    lm_head: Any
    final_logits_bias: Any
    _get_resized_lm_head: Any
    tie_weights: Any

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """As in `PreTrainedModel`. With separate vocabularies, this resizes the source embeddings only."""
        embeddings = self.model.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        self.vocab_size = embeddings.num_embeddings  # as `PreTrainedModel` does
        self._resize_output(mean_resizing)
        return embeddings

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize the target embeddings and the output projection of a model with separate vocabularies."""
        embeddings = self.model.resize_decoder_token_embeddings(new_num_tokens)
        self._resize_output()
        return embeddings

    def _resize_output(self, mean_resizing: bool = True) -> None:
        """Resize the output projection and its bias to the target vocabulary; new biases are 0."""
        vocab_size = self.config.decoder_vocab_size or self.config.vocab_size
        extra = vocab_size - self.lm_head.out_features
        if extra:
            self.lm_head = self._get_resized_lm_head(self.lm_head, vocab_size, mean_resizing=mean_resizing)
            if self.config.logits_bias:
                self.final_logits_bias = nn.functional.pad(self.final_logits_bias, (0, extra))
        self.tie_weights()


__all__ = ["ResizableEmbeddings", "ResizableOutput"]
