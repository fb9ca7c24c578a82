"""Translate files, pipes or typed sentences.

python scripts/translate.py --model runs/base --input test.en --output test.de
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["translate", *sys.argv[1:]]))
