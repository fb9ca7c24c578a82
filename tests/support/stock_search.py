"""`transformers`' own greedy decoding and beam search of a model of ours, to compare with."""

from typing import Any

from transformers import GenerationMixin

from hf_vanilla_transformer.model import fast_path
from hf_vanilla_transformer.model.call_settings import OWN


def by_transformers(model: Any, **settings: Any) -> Any:
    """`model.generate(**settings)` with the searches of `GenerationMixin`."""

    class Stock(fast_path.Call):
        def _obstacle(self) -> str:
            return "a comparison"

    own = {name: settings.pop(name, None) for name in OWN}
    return Stock(model, {**settings, **own}, says=False).run(lambda **given: GenerationMixin.generate(model, **given))
