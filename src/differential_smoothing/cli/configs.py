"""The command that writes the configs and studies of the documentation, to be used and changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app

PACKAGE = Path(__file__).parents[1]


def shipped() -> Path:
    """The folder that holds `configs` and `benchmarks`: in the package of a wheel, else the repository that it is read from."""
    for folder in (PACKAGE / "data" / "shipped", PACKAGE.parents[1]):
        if (folder / "configs").is_dir():
            return folder
    raise ValueError(
        f"This install of differential-smoothing has no configs beside {PACKAGE}. Install its wheel, or its repository with "
        "pip install --editable."
    )


@app.command()
def configs(
    output: Annotated[
        Path, typer.Option(help="Folder to copy configs/ and benchmarks/ into; existing files are kept.")
    ] = Path("."),
) -> None:
    """Write the configs and studies of the documentation into the working folder, so that its commands run from there."""
    source, written, kept = shipped(), 0, 0
    studies = [*source.glob("benchmarks/*.yaml"), *source.glob("benchmarks/bases/countdown-4x10-small/*")]
    for file in sorted([*source.glob("configs/**/*"), *studies]):
        copy = output / file.relative_to(source)
        if not file.is_file():
            continue
        if copy.exists():
            kept += 1
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        written += 1
    kept_text = f"; {kept} were there and stay as they are" * bool(kept)
    print(f"{written} files are written to {output / 'configs'} and {output / 'benchmarks'}{kept_text}.")
