"""Recompute every score in a model's card.

python scripts/verify.py --model runs/quickstart
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["verify", *sys.argv[1:]]))
