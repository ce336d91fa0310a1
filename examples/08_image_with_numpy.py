"""A filter over an image with NumPy: in bands that travel, and in memory that all see.

    python examples/08_image_with_numpy.py        (needs NumPy)

What to notice: arrays travel without a pickle copy and arrive private and writable; an image in a
`SharedArray` does not travel at all, each worker writes its own rows, and `numpy.asarray` is a view.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from parmap import SharedArray, parallel_map

Image = NDArray[np.float64]
HEIGHT, WIDTH, BANDS = 240, 320, 6

y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
image: Image = np.sin(x / 9.0) * np.cos(y / 7.0) + (x > y)


def blur(rows: Image) -> Image:
    """The mean of each pixel and its eight neighbours; the outermost rows and columns are left out."""
    height, width = rows.shape
    shifts = [rows[dy : height - 2 + dy, dx : width - 2 + dx] for dy in range(3) for dx in range(3)]
    mean: Image = np.mean(shifts, axis=0)
    return mean


def bands() -> list[tuple[int, int]]:
    """The rows of the result, in pieces."""
    edges = np.linspace(0, HEIGHT - 2, BANDS + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))


whole = blur(image)

print("1. Bands of the image travel, with one row more on either side")
parts = parallel_map(blur, [image[start : stop + 2] for start, stop in bands()])
print("   the same as in one piece:", np.array_equal(np.vstack(parts), whole))
print("   what comes back is ours:", parts[0].flags.writeable)

print("2. Nothing travels: source and result are in shared memory")
source = SharedArray.from_numpy(image)
result = SharedArray.from_numpy(np.zeros((HEIGHT - 2, WIDTH - 2)))


def blur_band(start: int, stop: int) -> tuple[int, int]:
    """Reads what all may read, writes rows that are its own: so it needs no lock."""
    np.asarray(result)[start:stop] = blur(np.asarray(source)[start : stop + 2])
    return start, stop


starts, stops = zip(*bands(), strict=True)
print("   rows done:", parallel_map(blur_band, starts, stops))
print("   the same as in one piece:", np.array_equal(np.asarray(result), whole))

print("3. Reduce: each worker returns numbers, not pictures")
histograms = parallel_map(
    lambda start, stop: np.histogram(np.asarray(result)[start:stop], bins=4, range=(-1, 2))[0],
    starts,
    stops,
)
print("   pixels by brightness:", np.sum(histograms, axis=0).tolist())
