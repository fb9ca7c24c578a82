"""transformers' FSMT tokenizer, made to encode targets by the target's vocabulary.

Its own `text_target=` looks targets up in the source's vocabulary and says nothing: a model fine-tuned on that learns
to write noise. Saved, it is transformers' tokenizer again.
"""

from transformers import FSMTTokenizer as _FSMTTokenizer


class FSMTTokenizer(_FSMTTokenizer):
    """As in `transformers`; `text_target=` means the target language."""

    def _switch_to_target_mode(self) -> None:
        self._source_mode = (self.encoder, self.src_lang)
        self.encoder = {token: index for index, token in self.decoder.items()}
        self.src_lang = self.tgt_lang

    def _switch_to_input_mode(self) -> None:
        self.encoder, self.src_lang = self._source_mode
