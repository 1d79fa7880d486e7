import subprocess
import sys

from scanlore.views.affine import AffinePolicy
from scanlore.views.multicrop import MultiCropPolicy
from scanlore.views.policy import build_policy
from scanlore.views.settings import AffineSettings, MultiCropSettings


def test_settings_choose_their_policy():
    assert build_policy(MultiCropSettings(), 1, 16) == MultiCropPolicy(MultiCropSettings(), 1, 16)
    assert build_policy(AffineSettings(), 1, 16) == AffinePolicy(AffineSettings(), 1)


def test_policies_are_torch_free():
    code = "import sys, scanlore.views.policy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
