"""`python -m hf_vanilla_transformer`, the same as `vanilla-transformer`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
