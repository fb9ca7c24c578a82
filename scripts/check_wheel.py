"""Check that a wheel contains all files of the package and no others.

python scripts/check_wheel.py dist/hf_vanilla_transformer-0.2.0-py3-none-any.whl
"""

import subprocess
import sys
import zipfile
from pathlib import Path


def tracked_package_files() -> set[str]:
    """Files of the package under version control."""
    listing = subprocess.run(
        ["git", "ls-files", "hf_vanilla_transformer"], capture_output=True, text=True, check=True
    ).stdout
    return set(listing.split("\n")) - {""}


def main(wheel: str) -> int:
    """Compare the wheel's files with the package's."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = {name for name in names if ".dist-info/" in name}
        entry_points = next(name for name in metadata if name.endswith("entry_points.txt"))
        has_card = archive.read("hf_vanilla_transformer/hub/model_card.md") == Path("model_card.md").read_bytes()
        has_command = "vanilla-transformer = hf_vanilla_transformer.cli:main" in archive.read(entry_points).decode()
    wanted = tracked_package_files()
    problems = [f"missing: {name}" for name in sorted(wanted - names)]
    problems += [f"not under version control: {name}" for name in sorted(names - metadata - wanted)]
    if not any(name.endswith("LICENSE") for name in metadata):
        problems.append("missing: the licence")
    if not has_card:
        problems.append("the card's template differs from model_card.md")
    if not has_command:
        problems.append("missing: the vanilla-transformer command")
    print("\n".join(problems) or f"{wheel}: all {len(wanted)} files of the package are there.")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
