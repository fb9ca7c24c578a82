"""Convert a Marian (OPUS-MT) or FSMT (WMT19) model to this package's format.

python scripts/convert.py --from marian --model opus-mt-en-de --output runs/opus
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["convert", *sys.argv[1:]]))
