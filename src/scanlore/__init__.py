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
    from scanlore.verbs.corpus_build import build_corpus, curate_corpus, preview_corpus
    from scanlore.verbs.corpus_change import export_corpus, join_table, verify_corpus
    from scanlore.verbs.corpus_show import show_corpus
    from scanlore.verbs.corpus_split import split_corpus
    from scanlore.verbs.datasets import convert_dataset, fetch_dataset
    from scanlore.verbs.demo import demo
    from scanlore.verbs.embed import embed
    from scanlore.verbs.evaluate import evaluate
    from scanlore.verbs.explain import explain
    from scanlore.verbs.export import export
    from scanlore.verbs.inspect import inspect
    from scanlore.verbs.predict import predict
    from scanlore.verbs.pretrain import pretrain

_HOMES = {
    "adapt": "scanlore.verbs.adapt",
    "build_corpus": "scanlore.verbs.corpus_build",
    "compare": "scanlore.verbs.compare",
    "convert_dataset": "scanlore.verbs.datasets",
    "curate_corpus": "scanlore.verbs.corpus_build",
    "demo": "scanlore.verbs.demo",
    "embed": "scanlore.verbs.embed",
    "evaluate": "scanlore.verbs.evaluate",
    "explain": "scanlore.verbs.explain",
    "export": "scanlore.verbs.export",
    "export_corpus": "scanlore.verbs.corpus_change",
    "fetch_dataset": "scanlore.verbs.datasets",
    "inspect": "scanlore.verbs.inspect",
    "join_table": "scanlore.verbs.corpus_change",
    "load_model": "scanlore.modelfolder.reference",
    "predict": "scanlore.verbs.predict",
    "pretrain": "scanlore.verbs.pretrain",
    "preview_corpus": "scanlore.verbs.corpus_build",
    "show_corpus": "scanlore.verbs.corpus_show",
    "split_corpus": "scanlore.verbs.corpus_split",
    "verify_corpus": "scanlore.verbs.corpus_change",
}

__all__ = [
    "__version__",
    "adapt",
    "build_corpus",
    "compare",
    "convert_dataset",
    "curate_corpus",
    "demo",
    "embed",
    "evaluate",
    "explain",
    "export",
    "export_corpus",
    "fetch_dataset",
    "inspect",
    "join_table",
    "load_model",
    "predict",
    "pretrain",
    "preview_corpus",
    "show_corpus",
    "split_corpus",
    "verify_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'scanlore' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)
