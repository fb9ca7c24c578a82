"""Compute the log-probability of given translations.

python scripts/score.py --model runs/base --source test.en --target test.de
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["score", *sys.argv[1:]]))
