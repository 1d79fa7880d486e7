"""How a run is spread over devices; torch-free."""

from __future__ import annotations

from typing import Literal

from scanlore.config import Settings


class ParallelSettings(Settings):
    """Sharding, recomputation and compilation.

    Attributes:
        sharding: `none` keeps the whole network on every device (DistributedDataParallel); `fsdp` shards parameters,
            gradients and optimiser state (FSDP2).
        activation_checkpointing: `full` recomputes every block in the backward pass: less memory, more time.
        compile: Compile every block; `auto` on CUDA alone.
    """

    sharding: Literal["none", "fsdp"] = "none"
    activation_checkpointing: Literal["none", "full"] = "none"
    compile: Literal["auto", "on", "off"] = "auto"
