"""transformers' FSMT tokenizer, made to encode targets by the target's vocabulary.

Its own `text_target=` looks targets up in the source's vocabulary and says nothing: a model fine-tuned on that learns
to write noise. Saved, it is transformers' tokenizer again.
"""

from typing import Any

from transformers import FSMTTokenizer as _FSMTTokenizer


class FSMTTokenizer(_FSMTTokenizer):
    """As in `transformers`; `text_target=` means the target language."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source_side = (self.encoder, self.src_lang)
        self._target_side = ({token: index for index, token in self.decoder.items()}, self.tgt_lang)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As in `transformers`; afterwards it encodes sources again, also if a target could not be encoded."""
        try:
            return super().__call__(*args, **kwargs)
        finally:
            if not self._in_target_context_manager:
                self._switch_to_input_mode()

    def _switch_to_target_mode(self) -> None:
        self.encoder, self.src_lang = self._target_side

    def _switch_to_input_mode(self) -> None:
        self.encoder, self.src_lang = self._source_side
