"""Export a model to another format.

python scripts/export.py --to ctranslate2 --model runs/base --output runs/base-ctranslate2 --quantization int8
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["export", *sys.argv[1:]]))
