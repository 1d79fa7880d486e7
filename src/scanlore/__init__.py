"""Scanlore: from a folder of unlabelled medical scans to a foundation model whose worth is proven.

The public functions are the verbs of the command line with the same words, and `load_model`. They are imported when
first used, so that `import scanlore` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scanlore.__about__ import __version__

if TYPE_CHECKING:
    from scanlore.modelfolder.reference import load_model
    from scanlore.verbs.adapt import adapt
    from scanlore.verbs.compare import compare
    from scanlore.verbs.corpus_build import build_corpus
    from scanlore.verbs.corpus_show import show_corpus
    from scanlore.verbs.demo import demo
    from scanlore.verbs.embed import embed
    from scanlore.verbs.evaluate import evaluate
    from scanlore.verbs.inspect import inspect
    from scanlore.verbs.predict import predict
    from scanlore.verbs.pretrain import pretrain

_HOMES = {
    "adapt": "scanlore.verbs.adapt",
    "build_corpus": "scanlore.verbs.corpus_build",
    "compare": "scanlore.verbs.compare",
    "demo": "scanlore.verbs.demo",
    "embed": "scanlore.verbs.embed",
    "evaluate": "scanlore.verbs.evaluate",
    "inspect": "scanlore.verbs.inspect",
    "load_model": "scanlore.modelfolder.reference",
    "predict": "scanlore.verbs.predict",
    "pretrain": "scanlore.verbs.pretrain",
    "show_corpus": "scanlore.verbs.corpus_show",
}

__all__ = [
    "__version__",
    "adapt",
    "build_corpus",
    "compare",
    "demo",
    "embed",
    "evaluate",
    "inspect",
    "load_model",
    "predict",
    "pretrain",
    "show_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'scanlore' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)
