"""The FSMT tokenizer of transformers, changed to encode targets with the target vocabulary.

In transformers, `text_target=` silently uses the source vocabulary, and a model fine-tuned on that learns noise. When
saved, it is the tokenizer of transformers again.
"""

from typing import Any

from transformers import FSMTTokenizer as StockFSMTTokenizer


class FSMTTokenizer(StockFSMTTokenizer):
    """As in `transformers`; `text_target=` means the target language."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.source_side = (self.encoder, self.src_lang)
        self.target_side = ({token: index for index, token in self.decoder.items()}, self.tgt_lang)

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        *args: Any,
        max_target_length: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in `transformers`, except for targets; source settings are restored even if encoding a target fails."""
        if text_target is None:
            return super().__call__(text, text_pair, None, None, *args, **kwargs)
        longest = {} if max_target_length is None else {"max_length": max_target_length}
        self.encoder, self.src_lang = self.target_side
        try:
            target = super().__call__(text_target, text_pair_target, None, None, *args, **{**kwargs, **longest})
        finally:
            self.encoder, self.src_lang = self.source_side
        if text is None:
            return target
        source = super().__call__(text, text_pair, None, None, *args, **kwargs)
        source["labels"] = target["input_ids"]
        return source
