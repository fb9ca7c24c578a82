"""Train a model from a recipe.

accelerate launch scripts/train.py --recipe wmt14-en-de-base --output_dir runs/base
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]]))
