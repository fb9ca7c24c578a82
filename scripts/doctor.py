"""Check a model's folder for faults.

python scripts/doctor.py --model runs/base
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["doctor", *sys.argv[1:]]))
