"""Names and ids of the three special tokens of every vocabulary learned here.

There is no unknown token: the 256 bytes are always in the vocabulary, so nothing is unknown.
"""

PAD_TOKEN, PAD_TOKEN_ID = "<pad>", 0
BOS_TOKEN, BOS_TOKEN_ID = "<s>", 1  # the decoder's start; the tokenizer itself never writes it
EOS_TOKEN, EOS_TOKEN_ID = "</s>", 2

SPECIAL_TOKENS = (PAD_TOKEN, BOS_TOKEN, EOS_TOKEN)  # in the order of their ids
