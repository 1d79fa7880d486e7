import numpy as np
import pytest

from scanlore.reports.pca import pca_rgb, pca_rgb_joint, principal_components


def noise(*shape):
    return 0.01 * np.random.default_rng(1).standard_normal(shape)


@pytest.fixture
def organs():
    """An 8-wide field of a background and, inside it, two organs side by side: features, left organ, right organ."""
    features = noise(8, 6, 6, 6)
    left, right = np.zeros((2, 6, 6, 6), bool)
    left[1:3, 1:5, 1:5] = True
    right[3:5, 1:5, 1:5] = True
    features[0, left | right] += 10
    features[1, left] += 2
    features[1, right] -= 2
    return features, left, right


def test_background_is_white_and_organs_are_told_apart(organs):
    features, left, right = organs
    rgb = pca_rgb(features)
    assert rgb.shape == (6, 6, 6, 3)
    np.testing.assert_array_equal(rgb[~(left | right)], 1)
    # Red is the second component: the one between the organs.
    assert abs(rgb[left, 0].mean() - rgb[right, 0].mean()) > 0.9


def test_sign_of_the_first_component_does_not_matter(organs):
    features, left, right = organs
    features[0] *= -1
    np.testing.assert_array_equal(pca_rgb(features)[~(left | right)], 1)


def test_given_foreground_is_used(organs):
    features, left, right = organs
    rgb = pca_rgb(features, left | right)
    np.testing.assert_array_equal(rgb[~(left | right)], 1)
    assert abs(rgb[left, 0].mean() - rgb[right, 0].mean()) > 0.9


def test_channels_span_their_range_over_the_foreground(organs):
    features, left, right = organs
    inside = pca_rgb(features, left | right)[left | right]
    np.testing.assert_allclose(inside.min(0), 0)
    np.testing.assert_allclose(inside.max(0), 1)


def test_joint_colours_mean_the_same_features(organs):
    features = organs[0]
    first, second = pca_rgb_joint([features, features[:, 1:, 1:]])
    np.testing.assert_allclose(first[1:, 1:], second)
    assert second.shape == (5, 5, 6, 3)


def test_empty_foreground_is_white(organs):
    assert (pca_rgb(organs[0], np.zeros((6, 6, 6), bool)) == 1).all()


def test_images_and_few_features_work():
    assert pca_rgb(noise(2, 5, 4)).shape == (5, 4, 3)


def test_components_are_deterministic_and_padded():
    matrix = np.random.default_rng(2).standard_normal((20, 3))
    components, shares = principal_components(matrix, 5)
    assert components.shape == (20, 5)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_array_equal(components[:, 3:], 0)
    np.testing.assert_allclose(principal_components(matrix[::-1], 5)[0][::-1], components, atol=1e-9)


def test_collapsed_embeddings_have_no_variance():
    components, shares = principal_components(np.ones((4, 3)), 2)
    assert not components.any()
    assert not shares.any()
