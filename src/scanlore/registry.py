"""Names and what they can do, as pure data: nothing here imports the code it names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be asked for by name.

    Attributes:
        family: Which module builds it: `"vit"`.
        embed_dim: Width.
        depth: Number of blocks.
        num_heads: Attention heads.
        ffn: `"mlp"` or `"swiglu"`.
        capabilities: Optional parts of the contract it has.
        note: One line for `scanlore models list`.
    """

    family: str
    embed_dim: int
    depth: int
    num_heads: int
    ffn: str = "mlp"
    capabilities: tuple[str, ...] = ("tokens", "blocks", "attention")
    note: str = ""


@dataclass(frozen=True)
class MethodEntry:
    """A pretraining objective.

    Attributes:
        module: Where its `build` function is.
        needs: Capabilities a backbone must have.
        note: One line.
    """

    module: str
    needs: tuple[str, ...]
    note: str = ""


# Widths and depths: ViT (Touvron et al. 2021) and DINOv2 (Oquab et al. 2023, table 17; ViT-g with SwiGLU).
BACKBONES: dict[str, BackboneEntry] = {
    "vit-tiny": BackboneEntry("vit", 192, 12, 3, note="ViT-tiny, 5.5 M parameters"),
    "vit-small": BackboneEntry("vit", 384, 12, 6, note="ViT-small, 22 M parameters"),
    "vit-base": BackboneEntry("vit", 768, 12, 12, note="ViT-base, 86 M parameters"),
    "vit-large": BackboneEntry("vit", 1024, 24, 16, note="ViT-large, 304 M parameters; 3DINO's"),
    "vit-giant": BackboneEntry("vit", 1536, 40, 24, ffn="swiglu", note="ViT-giant with SwiGLU, 1.1 B parameters"),
}

METHODS: dict[str, MethodEntry] = {
    "dino": MethodEntry(
        "scanlore.methods.dino.method",
        needs=("tokens",),
        note="DINOv2's image and patch objective in 2D and 3D (3DINO)",
    ),
}

# Intensity policies of `scanlore.scans.intensity`.
SCALINGS: tuple[str, ...] = ("percentile-0.05-99.95", "zscore", "window", "percentile-5-95", "8bit")

PROTOCOLS: dict[str, str] = {
    "knn": "nearest neighbours by cosine similarity on frozen embeddings",
    "linear-probe": "a grid of linear heads on frozen features, the best by validation",
}


def unusable_reason(method: str, backbone: str) -> str | None:
    """Return why `method` cannot train `backbone`, with the names of those it can; `None` when it can."""
    needs = METHODS[method].needs
    missing = [need for need in needs if need not in BACKBONES[backbone].capabilities]
    if not missing:
        return None
    usable = [name for name, entry in BACKBONES.items() if set(needs) <= set(entry.capabilities)]
    return f"method {method!r} needs {', '.join(missing)}, which {backbone!r} lacks; it can use {', '.join(usable)}"
