"""nnU-Net's side of `finetune.py`: a program that does one step of nnunetv2's own trainer whenever it is told to.

It needs nnunetv2 and nothing of Scanlore. `FOLDER/work.json` holds what both sides agree on, `FOLDER/batches.pt` the
batches, `FOLDER/weights.pt` the first weights; the second argument says whether the trainer is `plain` or `deep`ly
supervised. Each line on the standard input is answered by a line of JSON on the standard output: the seconds of a step,
and its loss.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

FOLDER, KIND, ANSWERS = Path(sys.argv[1]), sys.argv[2], sys.stdout
sys.stdout = sys.stderr  # where nnU-Net's own messages go
for place in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{place}"] = str(FOLDER / KIND / place)

import torch  # noqa: E402
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

DATASET, CONFIGURATION, IDENTIFIER = "Dataset001_Benchmark", "3d_fullres", "nnUNetPlans_3d_fullres"


def plans_of(work: dict[str, Any]) -> dict[str, Any]:
    """Return the plans of a residual encoder U-Net, as nnU-Net's planner writes them."""
    features, blocks = work["features"], work["blocks"]
    network = {
        "n_stages": len(features),
        "features_per_stage": features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3] for _ in features],
        "strides": [[1, 1, 1], *([2, 2, 2] for _ in features[1:])],
        "n_blocks_per_stage": blocks,
        "n_conv_per_stage_decoder": [1 for _ in features[1:]],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": network,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": IDENTIFIER,
        "batch_size": work["batch_size"],
        "patch_size": work["patch"],
        "batch_dice": False,  # as for tasks without a second resolution
        "architecture": architecture,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "configurations": {CONFIGURATION: configuration},
        "continue_training": False,
    }


def trainer_of(work: dict[str, Any], is_deep: bool) -> Any:
    """Return nnU-Net's trainer, ready for its first step, with the weights both sides begin with."""
    labels = {name: number for number, name in enumerate(work["classes"])}
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1}
    trainer = nnUNetTrainer(plans_of(work), CONFIGURATION, 0, dataset, torch.device("cpu"))
    trainer.enable_deep_supervision = is_deep
    trainer.initialize()
    trainer.network.load_state_dict(torch.load(FOLDER / "weights.pt"))
    trainer.on_train_epoch_start()
    return trainer


def batches_of(trainer: Any) -> Iterator[dict[str, Any]]:
    """Yield the batches over and over as nnU-Net's loader would; deep supervision learns from smaller labels, too."""
    scales, batches = trainer._get_deep_supervision_scales(), []
    for pixels, labels in torch.load(FOLDER / "batches.pt"):
        target: Any = labels[:, None]
        if scales is not None:
            rows = [DownsampleSegForDSTransform(scales)(segmentation=row)["segmentation"] for row in target]
            target = [torch.stack(level) for level in zip(*rows, strict=True)]
        batches.append({"data": pixels, "target": target})
    return cycle(batches)


def main() -> None:
    """Answer until the input ends."""
    work = json.loads((FOLDER / "work.json").read_text())
    torch.set_num_threads(work["threads"])
    clock = time.thread_time if work["threads"] == 1 else time.perf_counter
    identified = FOLDER / KIND / "preprocessed" / DATASET / IDENTIFIER
    identified.mkdir(parents=True)
    (identified / "case.b2nd").touch()  # tells the trainer what kind of files it would read
    trainer = trainer_of(work, is_deep=KIND == "deep")
    for _, batch in zip(sys.stdin, batches_of(trainer), strict=False):
        began = clock()
        loss = trainer.train_step(batch)["loss"]
        answer = {"seconds": clock() - began, "loss": float(loss)}
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
