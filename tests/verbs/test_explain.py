import json

import nibabel as nib
import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.backbones.settings import backbone_settings
from scanlore.errors import ConfigError, DataError, ModelError
from scanlore.modelfolder.folder import save_model_folder
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.verbs.explain import explain


def make_model(path, ndim=3, name="vit-tiny", seed=0):
    from scanlore.backbones.build import build_backbone

    options = {"patch_size": 4, "image_size": 8} if name == "vit-tiny" else {}
    architecture = backbone_settings({"name": name, "ndim": ndim} | options, "test")
    facts = Preprocessing.model_validate({"ndim": ndim, "input_size": 8 if name == "vit-tiny" else 16})
    save_model_folder(path, build_backbone(architecture, seed), architecture, facts, {}, None)
    return path


@pytest.fixture
def vit(tmp_path):
    return make_model(tmp_path / "vit")


@pytest.fixture
def scans(tmp_path):
    return [
        write_nifti_file(tmp_path / "in" / f"{name}.nii", (12, 10, 9), seed=place) for place, name in enumerate("ab")
    ]


def run(model, scans, out, **options):
    return explain(model, scans, out, device="cpu", **options)


def test_every_scan_gets_its_maps(vit, scans, tmp_path):
    (tmp_path / "in" / "notes.txt").touch()
    result = run(vit, tmp_path / "in", tmp_path / "out")
    assert list(result.scans) == ["a", "b"]
    assert sorted(path.name for path in result.scans["a"].iterdir()) == [
        "facts.json",
        "panel.png",
        "vit_attention.nii.gz",
        "vit_basis.npz",
        "vit_heads.png",
        "vit_maps.npz",
        "vit_pca.nii.gz",
    ]
    attention, scan = nib.load(result.scans["a"] / "vit_attention.nii.gz"), nib.load(scans[0])
    assert attention.shape == (*scan.shape, 3)
    np.testing.assert_array_equal(attention.affine, scan.affine)
    assert [path.name for path, _ in result.skipped] == ["notes.txt"]
    assert (result.problems, result.bases) == ((), ())
    assert "How to read this" in result.page.read_text()


def test_the_same_call_again_changes_nothing(vit, scans, tmp_path):
    first = run(vit, scans, tmp_path / "out")
    again = run(vit, scans, tmp_path / "out")
    assert (first.already_finished, again.already_finished, again.scans) == (False, True, first.scans)
    with pytest.raises(ConfigError, match="other settings"):
        run(vit, scans, tmp_path / "out", joint=True)


def test_an_interrupted_run_goes_on(vit, scans, tmp_path, monkeypatch):
    import scanlore.reports.explain_panel as panel

    whole, drawn = panel.draw_panel, []

    def stopped(*args):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(args)
        return whole(*args)

    monkeypatch.setattr(panel, "draw_panel", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(vit, scans, tmp_path / "out", joint=True)
    monkeypatch.undo()
    result = run(vit, scans, tmp_path / "out", joint=True)
    assert (result.num_kept, list(result.scans)) == (1, ["a", "b"])


def test_joint_components_are_kept_and_used_on_new_scans(vit, scans, tmp_path):
    joint = run(vit, scans, tmp_path / "joint", joint=True)
    assert [path.name for path in joint.bases] == ["vit_basis.npz"]
    again = run(vit, scans[1], tmp_path / "new", basis=joint.bases[0])
    old, new = (np.load(result.scans["b"] / "vit_maps.npz")["scores"] for result in (joint, again))
    np.testing.assert_array_equal(old, new)
    own = run(vit, scans[1], tmp_path / "own")
    assert not np.array_equal(np.load(own.scans["b"] / "vit_maps.npz")["scores"], new)


def test_a_basis_of_another_model_or_layer_is_refused(vit, scans, tmp_path):
    basis = run(vit, scans, tmp_path / "joint", joint=True).bases[0]
    other = make_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="the basis belongs to"):
        run(other, scans, tmp_path / "out", basis=basis)
    with pytest.raises(ModelError, match="layer 11"):
        run(vit, scans, tmp_path / "out", basis=basis, layer=3)
    run(other, scans[0], tmp_path / "out", beside=[vit], basis=[basis])


def test_models_stand_side_by_side(vit, scans, tmp_path):
    cnn = make_model(tmp_path / "cnn", name="resenc-tiny")
    flat = make_model(tmp_path / "flat", ndim=2)
    result = run(vit, scans[0], tmp_path / "out", beside=[cnn, flat, vit])
    names = {path.name for path in result.scans["a"].iterdir()}
    assert {f"{name}_pca.nii.gz" for name in ("vit", "cnn", "flat", "vit-2")} <= names
    assert "cnn_attention.nii.gz" not in names
    assert "a CNN has no attention" in result.page.read_text()
    rows = json.loads((result.scans["a"] / "facts.json").read_text())["models"]
    assert [row["heads"] for row in rows] == [3, "no attention", 3, 3]


def test_images(tmp_path):
    write_png(tmp_path / "in" / "a.png", (20, 24))
    result = run(make_model(tmp_path / "flat", ndim=2), tmp_path / "in", tmp_path / "out")
    assert {"flat_pca.png", "flat_attention_03.png"} <= {path.name for path in result.scans["a"].iterdir()}


def test_a_broken_scan_never_ends_the_run(vit, scans, tmp_path):
    scans[0].write_bytes(b"broken")
    for joint in (False, True):
        result = run(vit, [*scans, write_png(tmp_path / "c.png", (8, 8))], tmp_path / f"out{joint}", joint=joint)
        assert list(result.scans) == ["b"]
        assert [name.rpartition("/")[2] for name, _ in result.problems] == ["c.png", "a.nii"]
        assert "takes volumes" in result.page.read_text()


def test_refused_calls_write_nothing(vit, scans, tmp_path):
    before = sorted(tmp_path.iterdir())
    refusals = [
        (ModelError, "it has no features to explain", {"model": "pixels:8"}),
        (ModelError, "no such model", {"model": "nothing"}),
        (ModelError, "no such file", {"basis": "none.npz"}),
        (ConfigError, "no layer 12", {"layer": 12}),
        (ConfigError, "99 patches an edge", {"grid": 99}),
        (ConfigError, "no device", {"device": "tpu"}),
        (DataError, "no such file", {"paths": tmp_path / "nowhere"}),
    ]
    for kind, reason, change in refusals:
        with pytest.raises(kind, match=reason):
            explain(**({"model": vit, "paths": scans, "out": tmp_path / "out", "device": "cpu"} | change))
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(ConfigError, match="no run folder"):
        run(vit, scans, tmp_path / "in")
