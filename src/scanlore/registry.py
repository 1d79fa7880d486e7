"""Names and what they can do, as pure data: nothing here imports the code it names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone that can be asked for by name.

    Attributes:
        family: Which module builds it: `"vit"` or `"resenc"`.
        embed_dim: Width of its embeddings: of a ViT's tokens, of a CNN's last stage.
        depth: Layers that can be asked for: blocks of a ViT, stages of a CNN.
        num_heads: Attention heads of a ViT.
        ffn: `"mlp"` or `"swiglu"`, of a ViT.
        features: Channels of each stage of a CNN, fine to coarse; every stage but the first halves the resolution.
        blocks: Residual blocks of each stage of a CNN.
        input_size: Edge of the volumes it is meant for, in voxels.
        capabilities: Optional parts of the contract it has.
        note: One line for `scanlore models list`.
    """

    family: str
    embed_dim: int
    depth: int
    num_heads: int = 0
    ffn: str = "mlp"
    features: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    input_size: int = 96
    capabilities: tuple[str, ...] = ("tokens", "blocks", "attention")
    note: str = ""


def _resenc(features: tuple[int, ...], blocks: tuple[int, ...], input_size: int, note: str) -> BackboneEntry:
    return BackboneEntry(
        "resenc",
        features[-1],
        len(features),
        ffn="",
        features=features,
        blocks=blocks,
        input_size=input_size,
        capabilities=("maps", "decoder"),
        note=note,
    )


@dataclass(frozen=True)
class MethodEntry:
    """A pretraining objective.

    Attributes:
        module: Where its `build` function is.
        needs: Capabilities a backbone must have, all of one of these groups.
        note: One line.
    """

    module: str
    needs: tuple[tuple[str, ...], ...]
    note: str = ""


# Widths and depths: ViT (Touvron et al. 2021) and DINOv2 (Oquab et al. 2023, table 17; ViT-g with SwiGLU).
# ResEnc U-Net: L is nnU-Net's and OpenMind's (Isensee et al. 2024, Wald et al. 2024); the smaller ones keep its shape.
BACKBONES: dict[str, BackboneEntry] = {
    "vit-tiny": BackboneEntry("vit", 192, 12, 3, note="ViT-tiny, 5.5 M parameters"),
    "vit-small": BackboneEntry("vit", 384, 12, 6, note="ViT-small, 22 M parameters"),
    "vit-base": BackboneEntry("vit", 768, 12, 12, note="ViT-base, 86 M parameters"),
    "vit-large": BackboneEntry("vit", 1024, 24, 16, note="ViT-large, 304 M parameters; 3DINO's"),
    "vit-giant": BackboneEntry("vit", 1536, 40, 24, ffn="swiglu", note="ViT-giant with SwiGLU, 1.1 B parameters"),
    "resenc-tiny": _resenc((16, 32, 64, 128), (1, 1, 1, 1), 64, "ResEnc U-Net of 4 stages, 1.3 M parameters"),
    "resenc-s": _resenc((32, 64, 128, 256), (1, 2, 2, 2), 96, "ResEnc U-Net of 4 stages, 9.7 M parameters"),
    "resenc-m": _resenc((32, 64, 128, 256, 320), (1, 2, 3, 4, 4), 128, "ResEnc U-Net of 5 stages, 44 M parameters"),
    "resenc-l": _resenc(
        (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6), 160, "ResEnc-L U-Net of 6 stages, 102 M parameters; S3D's"
    ),
}

METHODS: dict[str, MethodEntry] = {
    "dino": MethodEntry(
        "scanlore.methods.dino.method",
        needs=(("tokens",),),
        note="DINOv2's image and patch objective in 2D and 3D (3DINO)",
    ),
    "s3d": MethodEntry(
        "scanlore.methods.s3d.method",
        needs=(("maps", "decoder"),),
        note="sparse masked autoencoding of a U-Net (S3D)",
    ),
    "mae": MethodEntry(
        "scanlore.methods.mae.method",
        needs=(("maps", "decoder"), ("tokens",)),
        note="masked autoencoding: dense on a U-Net, with hidden patches left out on a ViT",
    ),
}

# Intensity policies of `scanlore.scans.intensity`.
SCALINGS: tuple[str, ...] = ("percentile-0.05-99.95", "zscore", "window", "percentile-5-95", "8bit")

PROTOCOLS: dict[str, str] = {
    "knn": "nearest neighbours by cosine similarity on frozen embeddings",
    "linear-probe": "a grid of linear heads on frozen features, the best by validation",
    "transfer": "a U-Net fine-tuned to segment, from pretrained weights or from scratch",
    "linear-decoder": "a linear decoder that segments, on a frozen backbone",
}


def unusable_reason(method: str, backbone: str) -> str | None:
    """Return why `method` cannot train `backbone`, with the names of those it can; `None` when it can."""
    needs = METHODS[method].needs

    def fits(name: str) -> bool:
        return any(set(group) <= set(BACKBONES[name].capabilities) for group in needs)

    if fits(backbone):
        return None
    wanted = " or ".join(" and ".join(group) for group in needs)
    usable = ", ".join(name for name in BACKBONES if fits(name))
    return f"method {method!r} needs {wanted}, which {backbone!r} lacks; it can use {usable}"
