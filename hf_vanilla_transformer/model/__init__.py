"""What travels to the Hub with the weights: the Transformer, how it decodes, text in and text out, its sealed folder.

`transformers` copies these files flat beside the weights: they import `torch`, `transformers`, `huggingface_hub` and
each other, always as `from .name import ...`, and nothing above this folder.
"""
