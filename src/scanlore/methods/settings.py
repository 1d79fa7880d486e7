"""The settings of all methods, told apart by `name`; torch-free."""

from __future__ import annotations

from typing import Annotated

from pydantic import Tag

from scanlore.config import by_key
from scanlore.methods.dino.settings import DinoSettings
from scanlore.methods.mae.settings import MaeSettings
from scanlore.methods.s3d.settings import S3DSettings

__all__ = ["DinoSettings", "MaeSettings", "MethodSettings", "S3DSettings"]


MethodSettings = Annotated[
    Annotated[DinoSettings, Tag("dino")] | Annotated[S3DSettings, Tag("s3d")] | Annotated[MaeSettings, Tag("mae")],
    by_key("name", "dino"),
]
