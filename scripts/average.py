"""Average the latest checkpoints of a run.

python scripts/average.py --checkpoints runs/base --last 5 --output runs/base-averaged
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["average", *sys.argv[1:]]))
