"""Write a page, and figures, that show how a model translates a sentence.

python scripts/illustrate.py --model runs/quickstart --text "je suis étudiant" --output page.html
"""

import sys

from hf_vanilla_transformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["illustrate", *sys.argv[1:]]))
