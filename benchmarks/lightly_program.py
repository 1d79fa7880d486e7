"""lightly-train as a program: what `peer_lightly.py` runs in an environment that has lightly-train and timm.

python lightly_program.py train WORK.json     pretrains by the documented call and ends
python lightly_program.py embed WORK.json     writes the exported network's features of images
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, lightly-train's default
BATCH_SIZE, SEED = 25, 0


def network(work: dict[str, Any]) -> Any:
    """Return the untrained ViT-tiny, for images of any size; the same weights every time."""
    import timm
    import torch

    torch.manual_seed(SEED)
    sizes = {"patch_size": work["patch_size"], "img_size": work["size"]}
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, **sizes)


def train(work: dict[str, Any]) -> None:
    """Pretrain with the program's own defaults, but for sizes, numbers and what keeps it on this CPU."""
    import lightly_train

    local = {"num_views": work["num_local"], "view_size": (work["local_size"],) * 2}
    lightly_train.pretrain(
        out=work["out"],
        data=work["images"],
        model=network(work),
        method="dino",
        epochs=work["epochs"],
        batch_size=work["batch_size"],
        num_workers=work["num_workers"],
        accelerator="cpu",
        devices=1,
        precision=work["precision"],
        seed=SEED,
        transform_args={"image_size": (work["size"],) * 2, "local_view": local},
    )


def embed(work: dict[str, Any]) -> None:
    """Write [CLS] and mean patch token of the files listed, `(N, 192)` each."""
    import numpy as np
    import torch
    from PIL import Image

    model = network(work).eval()
    if work["weights"]:
        model.load_state_dict(torch.load(work["weights"], weights_only=True))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    tokens = []
    for first in range(0, len(work["files"]), BATCH_SIZE):
        chunk = work["files"][first : first + BATCH_SIZE]
        opened = [Image.open(file).convert("RGB") for file in chunk]
        images = [image.resize((work["size"],) * 2, Image.Resampling.BICUBIC) for image in opened]
        pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 for image in images]
        with torch.inference_mode():
            tokens.append(model.forward_features((torch.stack(pixels) - mean) / std))
    found = torch.cat(tokens).float()
    np.savez(work["features"], cls=found[:, 0].numpy(), mean=found[:, 1:].mean(1).numpy())


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    os.environ.setdefault("LIGHTLY_TRAIN_EVENTS_DISABLED", "1")
    {"train": train, "embed": embed}[sys.argv[1]](given)
