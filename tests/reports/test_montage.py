import io

import numpy as np
from PIL import Image

from scanlore.reports.montage import GAP, LINE, Tile, montage


def tile(value, size, text=""):
    return Tile(np.full((2, 3, 3), value, np.uint8), size, text)


def test_tiles_lie_side_by_side_and_rows_below_each_other():
    picture = Image.open(io.BytesIO(montage([[tile(90, (30, 20), "é ∑"), tile(120, (10, 20))], [tile(150, (30, 40))]])))
    assert picture.size == (30 + 10 + 3 * GAP, LINE + 20 + 40 + 3 * GAP)
    pixels = np.asarray(picture)
    assert pixels[GAP + LINE + 10, GAP + 15].tolist() == [90] * 3
    assert pixels[GAP + LINE + 10, 2 * GAP + 35].tolist() == [120] * 3
    assert pixels[2 * GAP + LINE + 40, GAP + 15].tolist() == [150] * 3
    assert not pixels[-1].any()
