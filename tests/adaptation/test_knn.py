import numpy as np

from scanlore.adaptation.knn import fit_knn
from scanlore.adaptation.settings import KnnSettings

LABELS = np.arange(200) % 2


def clouds(make_features, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(200, 1, 8)) * 0.3
    points[:, 0, 0] += np.where(LABELS, 2, -2)
    return make_features(points)


def accuracy(make_features, labels):
    fitted = fit_knn(KnnSettings(), clouds(make_features, 0), labels)
    return (fitted.predict(clouds(make_features, 1)).argmax(1) == LABELS).mean()


def test_separable_data(make_features):
    assert accuracy(make_features, LABELS) == 1


def test_shuffled_labels_are_near_chance(make_features):
    shuffled = [accuracy(make_features, np.random.default_rng(seed).permutation(LABELS)) for seed in range(10)]
    assert 0.3 < np.mean(shuffled) < 0.7


def test_cosine_ignores_length(make_features):
    train = make_features([[[1, 0]], [[0, 1]]])
    fitted = fit_knn(KnnSettings(k=1), train, np.array([0, 1]))
    assert fitted.predict(make_features([[[90, 1]], [[0.001, 0.1]]])).tolist() == [[1, 0], [0, 1]]


def test_embeddings_that_hardly_differ_are_told_apart(make_features):
    constant = np.full(8, 100.0)
    train, test = (make_features(constant + 1e-2 * clouds(make_features, seed).embedding[:, None]) for seed in (0, 1))
    assert (fit_knn(KnnSettings(), train, LABELS).predict(test).argmax(1) == LABELS).mean() > 0.99


def test_k_is_clipped(make_features):
    fitted = fit_knn(
        KnnSettings(k=20, weights="uniform"), make_features([[[1, 0]], [[0, 1]], [[1, 1]]]), np.array([0, 1, 1])
    )
    assert fitted.chosen["k"] == 3
    assert np.allclose(fitted.predict(make_features([[[1, 0]]])), [[1 / 3, 2 / 3]])
