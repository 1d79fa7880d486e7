"""Protocol `knn`: nearest neighbours by cosine similarity on frozen embeddings."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from scanlore.adaptation.fitted import Fitted, Labels, Probabilities
from scanlore.adaptation.settings import KnnSettings
from scanlore.inference.extract import FeatureTable


def fit_knn(settings: KnnSettings, train: FeatureTable, labels: Labels) -> Fitted:
    """Remember the training cases; a probability is a class's share of the nearest neighbours.

    Args:
        settings: The number of neighbours and their weights; clipped to the number of training cases.
        train: Features of N training cases.
        labels: `(N,)` classes; every class `0 .. K-1` has a case.
    """
    k = min(settings.k, len(labels))
    classifier = KNeighborsClassifier(k, weights=settings.weights, metric="cosine", algorithm="brute")
    # Embeddings of an untrained network differ by 1e-5 of their length: in float32 all cosine distances would be zero.
    classifier.fit(train.embedding.astype(np.float64), labels)

    def predict(table: FeatureTable) -> Probabilities:
        return np.asarray(classifier.predict_proba(table.embedding.astype(np.float64)))

    return Fitted(predict, num_configs=1, selection="none", chosen={"k": k, "weights": settings.weights})
