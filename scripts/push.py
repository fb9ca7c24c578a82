"""Publish a model on the Hub.

python scripts/push.py --model runs/quickstart --repo_id someone/fr-en
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["push", *sys.argv[1:]]))
