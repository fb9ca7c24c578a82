"""Plot loss, learning rate and BLEU of a run over its steps.

python scripts/curves.py --run runs/base
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["curves", *sys.argv[1:]]))
