import os

import numpy as np

from tilestream.engine_process.arena import Arena


def test_both_sides_see_the_same_and_it_grows():
    ours = Arena()
    theirs = Arena(os.dup(ours.file))
    ours.reserve(100)
    first = ours.array(10, (3, 5))
    first[...] = 7
    seen = theirs.array(10, (3, 5))
    np.testing.assert_array_equal(seen, first)
    ours.reserve(5 << 20)
    ours.array(4 << 20, (6,))[...] = 9
    np.testing.assert_array_equal(theirs.array(4 << 20, (6,)), np.full(6, 9, np.uint8))
    first[...] = 8  # a view from before is still the same memory
    assert (theirs.array(10, (3, 5)) == 8).all() and (seen == 8).all()
    ours.reserve(10)  # never smaller
    assert ours.array(4 << 20, (6,)).sum() == 54
    ours.close()
    ours.close()
    theirs.close()
