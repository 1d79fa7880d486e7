"""The verb `export`: the weights of a model as one file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scanlore.errors import ConfigError, ModelError, nearest
from scanlore.run import check_place, disk_full, is_disk_full, make_folder, write_atomically


@dataclass(frozen=True)
class ExportResult:
    """What `export` did.

    Attributes:
        out: The file.
        format: Its layout.
        num_tensors: Tensors in it.
        num_bytes: Its size.
        licence: Of the weights, which their reader is bound to.
        untold: What the file cannot say and its reader has to know, a line each.
        already_done: Whether `out` held these very weights, so that nothing was written.
    """

    out: Path
    format: str
    num_tensors: int
    num_bytes: int
    licence: str | None
    untold: tuple[str, ...]
    already_done: bool


def export(model: str | Path, out: str | Path, format: str = "safetensors") -> ExportResult:  # noqa: A002
    """Write the backbone of a model into one file.

    Args:
        model: A model reference: a model folder, a run, `RUN@STEP` ...
        out: The file: `*.safetensors`, or `*.pth` for DINOv2's layout. Never overwritten: the same call again changes
            nothing.
        format: `safetensors`: our names of tensors, with architecture, preprocessing, provenance and licence in the
            metadata. `dinov2`: the layout of Meta's published files, for vision transformers.

    Raises:
        ConfigError: An argument is wrong, or `out` holds something else.
        DataError: The disk is full.
        ModelError: The model cannot be used, its licence forbids it, or the layout cannot hold it.
    """
    out = Path(out)
    _check(out, format)
    from scanlore.modelfolder.export import export_bytes, untold
    from scanlore.modelfolder.licences import may_export
    from scanlore.modelfolder.weights import open_weights

    weights = open_weights(model)
    if reason := may_export(weights.facts):
        raise ModelError(f"cannot be exported: {reason}", where=weights.name)
    content = export_bytes(weights, format)
    done = out.is_file()
    if done and out.read_bytes() != content:
        raise ConfigError("there is another file of this name", where=out, fix="choose another --out")
    if not done:
        _write(out, content)
    notes, licence = untold(weights.architecture, format), weights.facts.get("licence")
    return ExportResult(out, format, len(weights.backbone), len(content), licence, notes, done)


def _check(out: Path, layout: str) -> None:
    from scanlore.modelfolder.export import FORMATS

    if layout not in FORMATS:
        fix = f"{' or '.join(FORMATS)}{nearest(layout, list(FORMATS))}"
        raise ConfigError(f"no format {layout!r}", where="--format", fix=fix)
    endings = FORMATS[layout]
    if out.suffix not in endings:
        what = f"a file of the format {layout} must be called {' or '.join(f'*{ending}' for ending in endings)}"
        raise ConfigError(what, where=out, fix=f"--out {out.with_suffix(endings[0]).name}")
    if out.is_dir():
        raise ConfigError("is a folder", where=out, fix="name a file in it")
    check_place(out)


def _write(out: Path, content: bytes) -> None:
    make_folder(out.parent)
    try:
        write_atomically(out, content)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_full(out.parent) from None
