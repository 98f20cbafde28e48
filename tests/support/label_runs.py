"""Label maps and runs of them for property tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tilestream.label_runs import LabelRuns

# Of few labels and drawn coarse, so that there are runs, or of any.
label_maps = st.one_of(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)),
    st.builds(
        lambda coarse, height, width: coarse.repeat(height, axis=0).repeat(width, axis=1),
        arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 11)),
        st.integers(1, 40),
        st.integers(1, 600),
    ),
)


def split(runs: LabelRuns, data: st.DataObject) -> LabelRuns:
    """The same labels in more runs than are needed."""
    pixels = runs.width * runs.height
    cuts = data.draw(st.lists(st.integers(0, pixels - 1), max_size=20), label="cuts")
    starts = np.union1d(runs.starts, np.array(cuts, np.int32))
    values = runs.values[np.searchsorted(runs.starts, starts, side="right") - 1]
    return LabelRuns(runs.width, runs.height, starts.astype(np.int32), values)
