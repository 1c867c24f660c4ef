"""The meta repeat-factor sampler: its blocks, when updates hold, its state."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sampler_problem import (
    NUM_CLASSES,
    SETTINGS,
    SHOWN,
    THRESHOLD,
    made_up_dicts,
    make_sampler,
    random_gradient,
)

from balms_seg.meta import AdamSettings
from balms_seg.sampling import (
    BoundedLink,
    ImageClasses,
    ImageRates,
    MetaRepeatFactorTrainingSampler,
    SigmoidLink,
    TrainingSampler,
    build_index_stream,
    compute_repeat_factors,
    draws_of,
    expected_repeats,
)

FACTORS = compute_repeat_factors(made_up_dicts(), NUM_CLASSES, THRESHOLD)
START = FACTORS / FACTORS.sum()


def _config(batch_size: int = 4, **meta: object) -> SimpleNamespace:
    defaults = {
        "BLOCK": 1024,
        "LOOKAHEAD": 16,
        "ESTIMATOR": "score",
        "INIT_POW": 0.0,
        "TEMPERATURE": 1.0,
    }
    defaults |= {"MAX_FACTOR": 4.0, "LR": 0.01, "BETAS": (0.9, 0.999), "WEIGHT_DECAY": 0.0}
    loader = {
        "SAMPLER_TRAIN": "MetaRepeatFactorTrainingSampler",
        "REPEAT_THRESHOLD": THRESHOLD,
    }
    return SimpleNamespace(
        MODEL={"METHODS": {}},
        DATALOADER=SimpleNamespace(**loader),
        SOLVER=SimpleNamespace(IMS_PER_BATCH=batch_size),
        META=SimpleNamespace(**{**defaults, **meta}),
    )


def _train(sampler: MetaRepeatFactorTrainingSampler, steps: range, ahead: int = 0) -> list[tuple]:
    """Batches of 4, drawn `ahead` batches before their step; an update after each step."""
    drawn = []
    for step in steps:
        while sampler.position < 4 * (step + 1 + ahead):
            block = sampler.draw(4)
            drawn.append((block.indices.tolist(), block.probabilities.tolist()))
        sampler.mark_consumed(4)
        sampler.update(random_gradient(step))
    return drawn


def test_draws_carry_their_probability_and_every_image_comes() -> None:
    sampler = make_sampler()
    draws = sampler.draw(24 * 20)
    np.testing.assert_allclose(draws.probabilities, START[draws.indices], rtol=1e-12, atol=0)
    assert set(draws.indices) == set(range(len(SHOWN)))


def _block_counts(sampler: MetaRepeatFactorTrainingSampler, num_blocks: int) -> np.ndarray:
    """(num_blocks, N) how often each image comes in each block."""
    blocks = sampler.draw(num_blocks * sampler.block_size).indices.reshape(num_blocks, -1)
    return np.stack([np.bincount(block, minlength=sampler.size) for block in blocks])


def _largest_deviation(counts: np.ndarray, expected: np.ndarray) -> float:
    """Of the images' mean counts, in standard errors of systematic sampling."""
    variance = (expected % 1) * (1 - expected % 1)
    return float((np.abs(counts.mean(0) - expected) / np.sqrt(variance / len(counts))).max())


def test_counts_in_a_block_have_the_expectation_and_variance_of_systematic_sampling() -> None:
    counts = _block_counts(make_sampler(SHOWN * 5, block_size=40), 2000)
    expected = 40 * np.tile(START, 5) / 5
    assert (np.abs(counts - expected) < 1).all()
    assert _largest_deviation(counts, expected) < 4.5
    variance = (expected % 1) * (1 - expected % 1)
    np.testing.assert_allclose(counts.var(0), variance, rtol=0, atol=0.03)


def test_an_8_percent_error_in_a_tenth_of_the_images_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = make_sampler(SHOWN * 5, block_size=40)
    rates_of = sampler._rates_of

    def distort(psi: np.ndarray) -> ImageRates:
        rates = rates_of(psi)
        rates.probabilities[::10] *= 1.08
        rates.probabilities[:] /= rates.probabilities.sum()
        return rates

    monkeypatch.setattr(sampler, "_rates_of", distort)
    counts = _block_counts(sampler, 2000)
    assert _largest_deviation(counts, 40 * np.tile(START, 5) / 5) > 4.5


def test_the_order_within_a_block_is_shuffled() -> None:
    """Each place of a block sees every image; the places are exchangeable."""
    sampler = make_sampler(block_size=6)
    blocks = np.stack([sampler.draw(6).indices for _ in range(3000)])
    for place in range(6):
        share = np.bincount(blocks[:, place], minlength=len(SHOWN)) / 3000
        assert (np.abs(share - START) < 4.5 * np.sqrt(START * (1 - START) / 3000)).all()
    assert not (np.sort(blocks, axis=1) == blocks).all()


def test_an_update_holds_from_the_next_block_on() -> None:
    sampler = make_sampler()
    first = sampler.draw(10)
    sampler.update(random_gradient(0))
    rest, later = sampler.draw(14), sampler.draw(24)
    np.testing.assert_array_equal(rest.probabilities, make_sampler().draw(24).probabilities[10:])
    np.testing.assert_array_equal(later.probabilities, sampler.rates.probabilities[later.indices])
    assert (sampler.loss_weights(later) == 1).all()
    weights = sampler.loss_weights(first).numpy()
    np.testing.assert_allclose(
        weights, sampler.rates.probabilities[first.indices] / START[first.indices], rtol=1e-12
    )
    assert np.abs(weights - 1).max() > 1e-3


def test_an_update_on_a_block_boundary_holds_at_once() -> None:
    sampler = make_sampler()
    sampler.draw(24)
    sampler.update(random_gradient(0))
    assert (sampler.loss_weights(sampler.draw(24)) == 1).all()


def test_updates_wait_for_a_block_that_no_loader_has_drawn_yet() -> None:
    """With lookahead 8, consumed 16 of a block of 24 is early enough for the next, 20 is not."""
    for consumed, reaches_next in ((16, True), (20, False)):
        sampler = make_sampler(lookahead=8)
        sampler.draw(20)
        sampler.mark_consumed(consumed)
        sampler.update(random_gradient(0))
        sampler.draw(4)
        assert bool((sampler.loss_weights(sampler.draw(24)) == 1).all()) is reaches_next
        assert (sampler.loss_weights(sampler.draw(24)) == 1).all()


def test_drawing_ahead_changes_nothing_up_to_the_lookahead() -> None:
    expected = _train(make_sampler(lookahead=20), range(60))
    for ahead in (1, 4, 5):
        drawn = _train(make_sampler(lookahead=20), range(60), ahead)
        assert drawn[:60] == expected
    assert _train(make_sampler(lookahead=20), range(60), 8)[:60] != expected
    assert len({tuple(probabilities) for _, probabilities in expected}) > 30


def test_the_stream_depends_on_the_updates() -> None:
    sampler = make_sampler()
    sampler.update(-random_gradient(0))
    other = make_sampler()
    other.update(random_gradient(0))
    assert sampler.draw(240).indices.tolist() != other.draw(240).indices.tolist()


def test_updates_move_rates_against_the_gradient() -> None:
    sampler = make_sampler(lr=0.1)
    before = sampler.rates.class_rates
    gradient = torch.tensor([0.0, -1, 1, 0, 0, 0], dtype=torch.float64)
    sampler.update(gradient)
    change = sampler.rates.class_rates / before
    assert change[1] > 1 > change[2]
    np.testing.assert_array_equal(change[[0, 3, 4, 5]], 1)
    np.testing.assert_allclose(change[1], np.exp(np.log(4) * np.tanh(0.1)), rtol=1e-6)


def test_rates_stay_in_their_range_under_a_gradient_that_never_tires() -> None:
    sampler = make_sampler(link=BoundedLink(3.0), lr=5.0)
    base = sampler.rates.class_rates
    for _ in range(20):
        sampler.update(torch.tensor([1.0, -1, 1, -1, 1, -1], dtype=torch.float64))
    factor = sampler.rates.class_rates / base
    np.testing.assert_allclose(factor, [1 / 3, 3, 1 / 3, 3, 1 / 3, 3], rtol=1e-12)
    assert set(sampler.draw(24 * 60).indices) == set(range(len(SHOWN)))


@pytest.mark.parametrize("stop", [1, 5, 6, 11, 12, 13, 17])
@pytest.mark.parametrize("ahead", [0, 3])
def test_a_resumed_run_continues(stop: int, ahead: int) -> None:
    """Around block boundaries (every 6 batches), with rates planned but not yet in force."""
    make: Callable[[], MetaRepeatFactorTrainingSampler] = lambda: make_sampler(lookahead=12)  # noqa: E731
    whole = _train(make(), range(40), ahead)
    sampler = make()
    before = _train(sampler, range(stop), ahead)
    file = io.BytesIO()
    torch.save(sampler.state_dict(), file)
    _train(sampler, range(stop, stop + 9), ahead)  # must not reach into the saved state
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = make()
    _train(resumed, range(100, 103))  # whatever it did before must not matter
    resumed.load_state_dict(state)
    assert before + _train(resumed, range(stop, 40), ahead) == whole
    reference = make()
    _train(reference, range(40), ahead)
    np.testing.assert_array_equal(resumed.parameters.psi.numpy(), reference.parameters.psi.numpy())


def test_a_saved_state_is_not_changed_by_later_updates() -> None:
    sampler = make_sampler()
    _train(sampler, range(3))
    state = sampler.state_dict()
    expected = _train(sampler, range(3, 20))
    resumed = make_sampler()
    resumed.load_state_dict(state)
    assert _train(resumed, range(3, 20)) == expected
    again = make_sampler()
    again.load_state_dict(state)
    assert _train(again, range(3, 20)) == expected


def test_the_state_does_not_grow_with_the_data_set() -> None:
    sizes = []
    for repeats in (1, 500):
        sampler = make_sampler(SHOWN * repeats)
        _train(sampler, range(40))
        file = io.BytesIO()
        torch.save(sampler.state_dict(), file)
        sizes.append(file.tell())
    assert abs(sizes[1] - sizes[0]) < 200


@pytest.mark.parametrize(
    "other",
    [
        lambda: make_sampler(num_classes=NUM_CLASSES + 1),
        lambda: make_sampler([*SHOWN[:-1], [1]]),
        lambda: make_sampler(SHOWN[::-1]),
        lambda: make_sampler(block_size=12),
        lambda: make_sampler(link=BoundedLink(5.0)),
        lambda: TrainingSampler(len(SHOWN), seed=3),
    ],
)
def test_states_of_other_runs_are_refused(other: Callable) -> None:
    """Other number of classes, annotations, image order, block size, range, sampler."""
    with pytest.raises(ValueError, match="resume with the training set"):
        make_sampler().load_state_dict(other().state_dict())


@pytest.mark.parametrize("names", [None, tuple("abcdef")])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_names_the_class_and_changes_nothing(
    bad: float, names: tuple[str, ...] | None
) -> None:
    sampler = make_sampler()
    if names is not None:
        sampler.parameters.set_names(names)
    sampler.update(random_gradient(0))
    before = sampler.parameters.psi.numpy()
    gradient = random_gradient(1)
    gradient[4] = bad
    with pytest.raises(FloatingPointError, match="class 4" if names is None else r"class 4 \(e\)"):
        sampler.update(gradient)
    np.testing.assert_array_equal(sampler.parameters.psi.numpy(), before)
    sampler.update(random_gradient(1))
    assert np.isfinite(sampler.parameters.psi.numpy()).all()


def test_psi_that_becomes_nan_names_the_class() -> None:
    sampler = make_sampler(lr=1e308)
    sampler.update(random_gradient(0))
    with pytest.raises(FloatingPointError, match=r"psi .*not finite.*0, 1, .*META\.LR"):
        sampler.update(random_gradient(0))


def test_gradients_of_the_wrong_shape_are_refused() -> None:
    sampler = make_sampler()
    with pytest.raises(ValueError, match=r"shape \(6,\)"):
        sampler.update(torch.zeros(5))
    with pytest.raises(ValueError, match="each of 4 draws"):
        sampler.rate_gradient(sampler.draw(4), torch.zeros(3))


def test_rate_gradients_of_the_ranks_add_up() -> None:
    sampler = make_sampler()
    sampler.update(random_gradient(0))
    draws = sampler.draw(12)
    by_weight = torch.from_numpy(np.random.default_rng(2).normal(size=12))
    whole = sampler.rate_gradient(draws, by_weight)
    parts = sampler.rate_gradient(draws.slice(0, 5), by_weight[:5]) + sampler.rate_gradient(
        draws.slice(5, 12), by_weight[5:].float()
    )
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-8)
    assert whole.abs().max() > 0.01


def test_the_configuration_gives_repeat_factors_and_settings() -> None:
    cfg = _config(MAX_FACTOR=2.0, BLOCK=20, LOOKAHEAD=3, LR=0.5, BETAS=[0.8, 0.9], WEIGHT_DECAY=0.1)
    dicts = made_up_dicts()
    stream = build_index_stream(cfg, dicts, num_classes=NUM_CLASSES, seed=3)
    assert isinstance(stream, MetaRepeatFactorTrainingSampler)
    assert stream.link == BoundedLink(2.0)
    assert (stream.block_size, stream.max_drawn_ahead) == (20, 12)
    assert stream.parameters.settings == AdamSettings(0.5, (0.8, 0.9), 0.1)
    np.testing.assert_array_equal(stream.repeat_factors, FACTORS)
    np.testing.assert_array_equal(expected_repeats(cfg, dicts, num_classes=NUM_CLASSES), FACTORS)


def test_whole_images_have_flat_rates_under_a_tilted_sigmoid() -> None:
    dicts = [{"label": label} for label in (0, 0, 0, 0, 1, 2, 2)]
    cfg = _config(INIT_POW=0.5, ESTIMATOR="gumbel_class")
    stream = build_index_stream(cfg, dicts, num_classes=3, seed=3)
    assert stream.link == SigmoidLink()
    assert stream.estimator == "gumbel_class"
    np.testing.assert_allclose(stream.rates.class_rates * [2, 1, np.sqrt(2)], 2 / 3)
    repeats = expected_repeats(cfg, dicts, num_classes=3)
    np.testing.assert_allclose(repeats / repeats.sum(), stream.rates.probabilities)


def test_a_block_that_is_no_multiple_of_the_batch_is_refused_with_one_that_is() -> None:
    with pytest.raises(ValueError, match=r"META\.BLOCK.*IMS_PER_BATCH 12.*1032"):
        MetaRepeatFactorTrainingSampler.from_config(
            _config(12), made_up_dicts(), num_classes=NUM_CLASSES, seed=0
        )


def test_a_threshold_at_which_nothing_repeats_warns(caplog: pytest.LogCaptureFixture) -> None:
    cfg = _config()
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.001
    MetaRepeatFactorTrainingSampler.from_config(
        cfg, made_up_dicts(), num_classes=NUM_CLASSES, seed=0
    )
    assert "All repeat factors are 1" in caplog.text


def test_classes_that_cannot_learn_are_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Class 1 always stands beside the rarer class 2; class 3 has no image and is not meant."""
    shown = [[0], [0], [0], [0], [0], [0], [1, 2], [1], [1, 2]]
    with caplog.at_level(logging.INFO, "balms_seg.sampling"):
        sampler = make_sampler(shown, 4)
        assert sampler.never_largest().tolist() == []
        sampler.draw(24)
        assert not caplog.records
        del shown[7]
        sampler = make_sampler(shown, 4)
        sampler.parameters.step(torch.tensor([0.0, 1, 0, 0]))
        sampler.update(torch.tensor([0.0, 1, 0, 0]))
        assert sampler.never_largest().tolist() == [1]
        sampler.draw(60)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1  # not once a block
    assert "1 of 3 classes with images" in lines[0]


def test_a_batch_without_probabilities_is_refused() -> None:
    good = {"dataset_index": 3, "draw_probability": 0.25, "stream_position": 8}
    draws = draws_of([good, {**good, "dataset_index": 1, "draw_probability": 0.5}])
    assert draws.indices.tolist() == [3, 1]
    assert draws.probabilities.tolist() == [0.25, 0.5]
    assert draws.positions.tolist() == [8, 8]
    with pytest.raises(KeyError, match="draw_probability.*build_train_loader"):
        draws_of([good, {"dataset_index": 1}])


def test_bad_settings_are_refused() -> None:
    image_classes = ImageClasses(made_up_dicts(), NUM_CLASSES)
    adam = AdamSettings(0.1, (0.9, 0.999), 0.0)
    make = partial(MetaRepeatFactorTrainingSampler, image_classes, adam=adam)
    with pytest.raises(ValueError, match="base rate for each of 6"):
        make(np.ones(5), **SETTINGS)
    with pytest.raises(ValueError, match="base rates above 0"):
        make([1, 1, 0, 1, 1, 1], **SETTINGS)
    with pytest.raises(ValueError, match=r"'score'\], but got 'scores'"):
        make(np.ones(6), **{**SETTINGS, "estimator": "scores"})
    with pytest.raises(ValueError, match=r"META\.BLOCK"):
        make(np.ones(6), **{**SETTINGS, "block_size": 0})
    with pytest.raises(ValueError, match=r"META\.LOOKAHEAD"):
        make(np.ones(6), **{**SETTINGS, "lookahead": -1})


def test_flat_rates_with_a_sigmoid_serve_classification() -> None:
    """Every class drawn in proportion to its images at first, whatever the link's start value."""
    image_classes = ImageClasses([{"label": label} for label in (0, 0, 0, 1, 2, 2)], 3)
    sampler = MetaRepeatFactorTrainingSampler(
        image_classes,
        np.ones(3),
        adam=AdamSettings(0.01, (0.9, 0.999), 0.0),
        **{**SETTINGS, "link": SigmoidLink(), "block_size": 12},
    )
    np.testing.assert_allclose(sampler.rates.probabilities, 1 / 6, rtol=1e-14)
    for _ in range(50):
        sampler.update(torch.tensor([1.0, -1.0, 0.0]))
    assert sampler.rates.class_rates[0] < 0.5 < sampler.rates.class_rates[1]
    assert np.bincount(sampler.draw(12).indices, minlength=6).sum() == 12
