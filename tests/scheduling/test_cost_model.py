"""What steps cost is learned from steps, whatever the machine does in between."""

import random
from dataclasses import astuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tilestream.scheduling.cost_model import CostModel, Work

SIZES = (0.1, 0.17, 0.7)


def work(chance, group="m"):
    whole = chance.random() < 0.3
    share = 1.0 if whole else chance.choice((0.0, chance.random()))
    return Work(group, chance.choice(SIZES), whole, share)


def truth(works, fixed, coefficients):
    total = fixed
    for w in works:
        frame, whole, part = coefficients[w.group]
        total += w.megapixels * (frame + (whole if w.whole else part * w.share))
    return total


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.floats(1e-4, 0.02),
    st.tuples(st.floats(0.005, 0.2), st.floats(0.05, 3.0), st.floats(0.05, 3.0)),
)
@example(0, 0.015625, (0.015625, 0.0625, 0.125))  # far from the proportions that are assumed at first
def test_coefficients_are_found_in_noise_and_interruptions(seed, fixed, coefficients):
    chance, model = random.Random(seed), CostModel()
    for _ in range(300):
        works = [work(chance) for _ in range(chance.randint(1, 6))]
        seconds = truth(works, fixed, {"m": coefficients}) * chance.lognormvariate(0.0, 0.03)
        model.learn(works, seconds * (8.0 if chance.random() < 0.02 else 1.0))
        assert model.fixed >= 0 and min(astuple(model.prices("m"))) >= 0
    steps = [[work(chance) for _ in range(chance.randint(1, 6))] for _ in range(50)]
    true = [truth(works, fixed, {"m": coefficients}) for works in steps]
    off = [abs(model.seconds(works) - seconds) for works, seconds in zip(steps, true, strict=True)]
    assert sorted(error / seconds for error, seconds in zip(off, true, strict=True))[25] < 0.25
    mean = sum(true) / len(true)  # of steps that cost next to nothing, any error is large
    assert all(error < max(seconds, 0.2 * mean) for error, seconds in zip(off, true, strict=True))


def test_groups_are_told_apart():
    chance, model = random.Random(1), CostModel()
    coefficients = {"small": (0.03, 0.2, 0.25), "large": (0.03, 1.0, 1.2)}
    for _ in range(400):
        works = [work(chance, chance.choice(("small", "large"))) for _ in range(3)]
        model.learn(works, truth(works, 0.002, coefficients))
    for group, expected in coefficients.items():
        assert model.prices(group).whole == pytest.approx(expected[1], rel=0.1)


def test_a_machine_that_gets_slower_is_followed():
    chance, model = random.Random(2), CostModel()
    for factor in (1.0, 2.5, 0.7):
        for _ in range(400):
            works = [work(chance) for _ in range(3)]
            model.learn(works, factor * truth(works, 0.002, {"m": (0.03, 0.27, 0.3)}))
        works = [Work("m", 0.17, True, 1.0)]
        expected = factor * truth(works, 0.002, {"m": (0.03, 0.27, 0.3)})
        assert model.seconds(works) == pytest.approx(expected, rel=0.15)


def resident(works):
    """Milliseconds of a step on a GPU that keeps all state there."""
    return 2.0 + sum(0.1 + 0.1 * w.compared + 0.65 * w.whole for w in works)


def test_prices_of_a_step_a_frame_and_what_is_computed_of_it_are_told_apart():
    """Far from the proportions that are assumed at first; frames whose budget is 1 are not compared."""
    chance, model = random.Random(4), CostModel()
    kinds = [(True, True), (False, True), (True, False)]
    for _ in range(600):
        chosen = chance.choices(kinds, k=chance.randint(1, 64))
        works = [Work("m", 1.0, whole, float(whole), compared) for whole, compared in chosen]
        model.learn(works, 1e-3 * resident(works) * chance.lognormvariate(0.0, 0.03))
    prices = model.prices("m")
    assert 1e3 * model.fixed == pytest.approx(2.0, rel=0.15)
    assert 1e3 * (prices.frame + prices.compared) == pytest.approx(0.2, abs=0.03)
    assert 1e3 * (prices.frame + prices.whole) == pytest.approx(0.75, rel=0.05)


def test_what_was_learned_once_is_not_forgotten_while_nothing_tells_it_anew():
    """Comparing frames is what costs; then none is compared any more, for long."""
    model = CostModel()
    compared, bare = [Work("m", 1.0, False, 0.0)] * 3, [Work("m", 1.0, True, 1.0, compared=False)] * 3
    for _ in range(100):
        model.learn(compared, 3 * 0.016)
        model.learn(bare, 3 * 0.0042)
    for _ in range(3000):
        model.learn(bare, 3 * 0.0042)
    assert model.seconds(compared) == pytest.approx(3 * 0.016, rel=0.1)
    for _ in range(1000):  # the machine is half as fast from now on
        model.learn(bare, 3 * 0.0084)
    assert model.seconds(compared) == pytest.approx(3 * 0.032, rel=0.5), "about as much slower as all else"


def test_the_first_step_sets_the_scale():
    model = CostModel()
    before = model.seconds([Work("m", 0.17, False, 0.5)])
    model.learn([Work("m", 0.17, True, 1.0)], 10.0 * model.seconds([Work("m", 0.17, True, 1.0)]))
    assert model.seconds([Work("m", 0.17, False, 0.5)]) == pytest.approx(10.0 * before, rel=0.05)


def test_what_was_never_seen_keeps_the_proportions():
    chance, model = random.Random(3), CostModel()
    for _ in range(500):  # whole frames only, on a machine three times as slow as the prior
        model.learn([Work("m", chance.choice(SIZES), True, 1.0)], 1.0)
        model.learn([Work("m", 0.17, True, 1.0)], 0.16)
    prices = model.prices("m")
    assert prices.part > 0.2 * prices.whole and prices.frame >= 0.0


def test_nothing_is_learned_from_nothing():
    model = CostModel()
    model.learn([], 1.0)
    model.learn([Work("m", 0.1, True, 1.0)], 0.0)
    assert model.steps == 0
