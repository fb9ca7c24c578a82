"""Score a model's translations of a test set.

Not `evaluate.py`: Python looks for modules beside the script first, and that name is a library's.

python scripts/evaluate_model.py --model runs/base --source test.en --reference test.de
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["evaluate", *sys.argv[1:]]))
