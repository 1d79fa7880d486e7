import pytest

from scanlore.adaptation.settings import SETTINGS, KnnSettings, LinearProbeSettings, protocol_settings
from scanlore.config import recipe_names
from scanlore.errors import ConfigError
from scanlore.registry import PROTOCOLS


def test_the_recipe_is_the_papers_grid():
    settings = protocol_settings("linear-probe")
    assert settings == LinearProbeSettings()
    assert settings.learning_rates == (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    assert len(settings.learning_rates) * len(settings.last_layers) * len(settings.avg_pool) == 104
    assert (settings.steps, settings.batch_size, settings.momentum, settings.weight_decay) == (12500, 32, 0.9, 0)


def test_the_cpu_recipe_differs_in_steps_only():
    assert protocol_settings("linear-probe", "linear-probe-cpu") == LinearProbeSettings(steps=1250)


def test_overrides():
    settings = protocol_settings("knn", overrides=["k=5", "features.batch_size=2"])
    assert (settings.k, settings.features.batch_size) == (5, 2)
    assert protocol_settings("knn") == KnnSettings()


def test_every_registered_protocol_has_settings_and_every_recipe_a_protocol():
    assert set(SETTINGS) == set(PROTOCOLS)
    for name in recipe_names("adapt"):
        assert protocol_settings(name.removesuffix("-cpu"), name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("knnn",), "no protocol 'knnn' .*did you mean 'knn'"),
        (("knn", "linear-probe"), "recipe of the protocol 'linear-probe', not 'knn'"),
        (("knn", None, ["kk=3"]), "unknown setting 'kk'"),
        (("knn", None, ["k=0", "weights=some"]), "k: .*weights: "),
        (("linear-probe", None, ["learning_rates=[]"]), "learning_rates: needs one positive number"),
        (("linear-probe", None, ["features.batchsize=3"]), "did you mean 'features.batch_size'"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        protocol_settings(*arguments)
