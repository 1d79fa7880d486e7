import numpy as np
import pytest

from scanlore.reports.pca import fit_basis, pca_rgb_joint, principal_components, sample_tokens


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


def colours(features):
    return pca_rgb_joint([features])[0]


def test_background_is_white_and_organs_are_told_apart(organs):
    features, left, right = organs
    rgb = colours(features)
    assert rgb.shape == (6, 6, 6, 3)
    np.testing.assert_array_equal(rgb[~(left | right)], 1)
    # Red is the second component: the one between the organs.
    assert abs(rgb[left, 0].mean() - rgb[right, 0].mean()) > 0.9


def test_sign_of_the_first_component_does_not_matter(organs):
    features, left, right = organs
    features[0] *= -1
    np.testing.assert_array_equal(colours(features)[~(left | right)], 1)


def test_a_few_odd_patches_do_not_pale_the_others():
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((800, 5)) * (0.01, 1, 0.01, 0.01, 0.01)
    tokens[:400, 0] += 1000
    tokens[0, 1] = 100
    basis = fit_basis(tokens, np.arange(800) >= 400)
    red = basis.rgb(basis.scores(tokens.T))[:400, 0]
    assert red.std() > 0.15


def test_channels_span_their_range_over_the_foreground(organs):
    features, left, right = organs
    inside = colours(features)[left | right]
    np.testing.assert_allclose(inside.min(0), 0)
    np.testing.assert_allclose(inside.max(0), 1)


def test_joint_colours_mean_the_same_features(organs):
    features = organs[0]
    first, second = pca_rgb_joint([features, features[:, 1:, 1:]])
    np.testing.assert_allclose(first[1:, 1:], second)
    assert second.shape == (5, 5, 6, 3)


def test_a_basis_draws_new_scans_in_the_colours_of_the_old(organs):
    features, left, right = organs
    basis = fit_basis(*sample_tokens(features))
    swapped = basis.rgb(basis.scores(features[:, ::-1]))
    np.testing.assert_allclose(swapped[::-1], basis.rgb(basis.scores(features)), atol=1e-5)
    np.testing.assert_array_equal(basis.foreground(basis.scores(features)), left | right)


def test_images_and_few_features_work():
    assert colours(noise(2, 5, 4)).shape == (5, 4, 3)


def test_a_collapsed_network_has_one_colour():
    rgb = colours(np.ones((8, 4, 4)))
    assert np.isfinite(rgb).all()
    assert len(np.unique(rgb.reshape(-1, 3), axis=0)) == 1


def test_a_sample_is_the_same_on_every_call_and_knows_its_border():
    features = np.arange(64.0).reshape(1, 8, 8)
    tokens, border = sample_tokens(features, 20)
    again, _ = sample_tokens(features, 20)
    np.testing.assert_array_equal(tokens, again)
    assert len(tokens) == 20
    rows, columns = np.divmod(tokens[:, 0], 8)
    np.testing.assert_array_equal(border, (rows % 7 == 0) | (columns % 7 == 0))


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
