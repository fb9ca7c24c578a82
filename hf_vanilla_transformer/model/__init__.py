"""The code that is saved with the weights: the Transformer, decoding, text in and text out, and sealed model folders.

`transformers` copies these files flat beside the weights. They import only `torch`, `transformers`, `huggingface_hub`
and each other, always as `from .name import ...`, and nothing above this folder.
"""
