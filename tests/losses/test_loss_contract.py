"""What all losses promise: shapes, dtypes, empty input, no mutation, derivatives, clear errors."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from balms_seg.losses import (
    balanced_sigmoid_loss,
    balanced_softmax_loss,
    balanced_softmax_loss_with_background,
    effective_number_weights,
    feature_balanced_loss,
    focal_loss,
    inverse_frequency_weights,
    ldam_loss,
    logit_adjusted_loss,
    sigmoid_loss,
)

NUM_CLASSES = 4
COUNTS = torch.tensor([500.0, 40.0, 3.0, 1.0])
FREQUENCY = torch.tensor([0.6, 0.1, 0.01, 1e-5])

Loss = Callable[..., Tensor]


def with_background(form: str, count: float | None = None) -> Loss:
    def loss(logits: Tensor, targets: Tensor, **options: str) -> Tensor:
        return balanced_softmax_loss_with_background(
            logits, targets, COUNTS, background=form, background_count=count, **options
        )

    return loss


def with_vector(function: Loss, vector: Tensor) -> Loss:
    return lambda logits, targets, **options: function(logits, targets, vector, **options)


def with_features(logits: Tensor, targets: Tensor, **options: str) -> Tensor:
    """Feature-Balanced Loss with the same features for every row."""
    features = logits.new_full((len(logits), 3), 2.0) if logits.dim() == 2 else logits
    return feature_balanced_loss(logits, targets, COUNTS, features, strength=5.0, **options)


# name -> (loss of (logits, targets), columns, highest target)
LOSSES = {
    "softmax": (with_vector(balanced_softmax_loss, COUNTS), 4, 3),
    "foreground_only": (with_background("foreground_only"), 5, 4),
    "neutral": (with_background("neutral"), 5, 4),
    "factored": (with_background("factored"), 5, 4),
    "prior": (with_background("prior", 30.0), 5, 4),
    "balanced_sigmoid": (with_vector(balanced_sigmoid_loss, FREQUENCY), 4, 4),
    "sigmoid": (sigmoid_loss, 4, 4),
    "focal": (partial(focal_loss, gamma=2.0), 4, 3),
    "ldam": (partial(with_vector(ldam_loss, COUNTS), scale=2.0), 4, 3),
    "logit_adjusted": (with_vector(partial(logit_adjusted_loss, tau=1.5), COUNTS), 4, 3),
    "feature_balanced": (with_features, 4, 3),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def problem(name: str, dtype: torch.dtype = torch.float64) -> tuple[Loss, Tensor, Tensor]:
    loss, columns, highest = LOSSES[name]
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(7, columns, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 3, highest, highest, 0])
    return loss, logits.to(dtype).requires_grad_(), targets


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_derivatives_of_first_and_second_order_are_right(name: str, reduction: str) -> None:
    loss, logits, targets = problem(name)
    function = partial(loss, targets=targets, reduction=reduction)
    assert torch.autograd.gradcheck(function, (logits,))
    assert torch.autograd.gradgradcheck(function, (logits,))


@every_loss
def test_reductions_agree(name: str) -> None:
    loss, logits, targets = problem(name)
    rows = loss(logits, targets, reduction="none")
    assert rows.shape == targets.shape
    torch.testing.assert_close(loss(logits, targets, reduction="sum"), rows.sum())
    torch.testing.assert_close(loss(logits, targets), rows.sum() / 7)


@every_loss
def test_each_row_stands_alone(name: str) -> None:
    loss, logits, targets = problem(name)
    rows = loss(logits, targets, reduction="none")
    order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
    torch.testing.assert_close(loss(logits[order], targets[order], reduction="none"), rows[order])
    torch.testing.assert_close(loss(logits[2:3], targets[2:3]), rows[2])


@every_loss
def test_backward_may_run_twice_on_a_kept_graph(name: str) -> None:
    loss, logits, targets = problem(name)
    value = loss(logits, targets)
    first = torch.autograd.grad(value, logits, retain_graph=True)[0].clone()
    second = torch.autograd.grad(value, logits, retain_graph=True)[0]
    torch.testing.assert_close(first, second)


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_batch_gives_zero_with_a_gradient(name: str, reduction: str) -> None:
    loss, logits, targets = problem(name)
    source = logits.detach().clone().requires_grad_()
    value = loss(source[:0], targets[:0], reduction=reduction).sum()
    value.backward()
    assert value.item() == 0
    assert torch.equal(source.grad, torch.zeros_like(source))


@every_loss
def test_batch_without_foreground_has_a_finite_gradient(name: str) -> None:
    loss, logits, targets = problem(name)
    loss(logits, torch.full_like(targets, LOSSES[name][2])).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


@every_loss
def test_inputs_are_not_changed(name: str) -> None:
    loss, logits, targets = problem(name)
    before = [t.detach().clone() for t in (logits, targets, COUNTS, FREQUENCY)]
    loss(logits, targets).backward()
    for tensor, copy in zip((logits, targets, COUNTS, FREQUENCY), before, strict=True):
        assert torch.equal(tensor, copy)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_computes_in_float32_or_wider(name: str, dtype: torch.dtype) -> None:
    loss, logits, targets = problem(name, dtype)
    value = loss(logits, targets)
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert logits.grad.dtype == dtype
    exact = loss(logits.detach().double(), targets)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    loss, logits, targets = problem(name, torch.float32)
    outside = loss(logits, targets)
    with torch.autocast("cpu", dtype=dtype):
        inside = loss(logits, targets)
        half = loss(logits.to(dtype), targets)
    assert torch.equal(inside, outside)
    assert half.dtype == torch.float32
    inside.backward()
    assert logits.grad.dtype == torch.float32


@every_loss
@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_logits_stay_finite(name: str, sign: int) -> None:
    loss, logits, targets = problem(name, torch.float32)
    extreme = (sign * 1e4 * logits.detach().sign()).requires_grad_()
    value = loss(extreme, targets)
    value.backward()
    assert value.isfinite()
    assert extreme.grad.isfinite().all()


@every_loss
def test_nan_is_passed_on(name: str) -> None:
    loss, logits, targets = problem(name)
    with torch.no_grad():
        logits[3, 0] = float("nan")
    rows = loss(logits, targets, reduction="none")
    assert rows.isnan().nonzero().flatten().tolist() == [3]


@every_loss
@pytest.mark.parametrize("bad", [-1, 100, -100])
def test_target_out_of_range_is_an_error(name: str, bad: int) -> None:
    loss, logits, targets = problem(name)
    targets[3] = bad
    with pytest.raises(ValueError, match=rf"targets in \[0, {LOSSES[name][2]}\]"):
        loss(logits, targets)


@every_loss
def test_first_target_past_the_range_is_an_error(name: str) -> None:
    loss, logits, targets = problem(name)
    with pytest.raises(ValueError, match="targets in"):
        loss(logits, targets + 1)


@every_loss
def test_wrong_arguments_are_errors(name: str) -> None:
    loss, logits, targets = problem(name)
    with pytest.raises(ValueError, match="reduction to be one of"):
        loss(logits, targets, reduction="average")
    with pytest.raises(ValueError, match="targets of shape"):
        loss(logits, targets[:-1])
    with pytest.raises(ValueError, match="logits of shape"):
        loss(logits[0], targets)
    with pytest.raises(ValueError, match="logits of shape"):
        loss(logits.sum(), targets)
    with pytest.raises(TypeError, match="int64 targets"):
        loss(logits, targets.int())
    with pytest.raises(TypeError, match="floating-point logits"):
        loss(logits.detach().long(), targets)


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("sigmoid", "focal")])
def test_class_vector_of_the_wrong_length_is_an_error(name: str) -> None:
    loss, logits, targets = problem(name)
    with pytest.raises(ValueError, match=r"of shape \(5,\)|of shape \(6,\)"):
        loss(torch.cat([logits, logits[:, :1]], dim=1), targets)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_counts_that_are_not_positive_and_finite_are_errors(value: float) -> None:
    counts = torch.tensor([3.0, value, 5.0])
    with pytest.raises(ValueError, match="counts positive and finite"):
        balanced_softmax_loss(torch.zeros(2, 3), torch.tensor([0, 1]), counts)
    with pytest.raises(ValueError, match="counts positive and finite"):
        balanced_softmax_loss_with_background(torch.zeros(2, 4), torch.tensor([0, 3]), counts)


def test_counts_that_want_a_gradient_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"pass \.detach\(\)"):
        balanced_softmax_loss(
            torch.zeros(1, 2), torch.tensor([0]), torch.ones(2, requires_grad=True)
        )


@pytest.mark.parametrize("argument", ["logits", "targets", "counts", "features"])
@pytest.mark.parametrize("convert", [Tensor.tolist, Tensor.numpy])
def test_what_is_not_a_tensor_is_an_error(argument: str, convert: Callable) -> None:
    given = {
        "logits": torch.zeros(1, 4),
        "targets": torch.tensor([0]),
        "counts": COUNTS,
        "features": torch.ones(1, 3),
    }
    with pytest.raises(TypeError, match=rf"{argument} to be a tensor.*torch\.as_tensor"):
        feature_balanced_loss(**{**given, argument: convert(given[argument])}, strength=1.0)


@pytest.mark.parametrize("function", [inverse_frequency_weights, effective_number_weights])
def test_weights_are_made_of_a_tensor_of_one_dimension(function: Loss) -> None:
    with pytest.raises(TypeError, match=r"counts to be a tensor, but got list"):
        function([5, 3, 1])
    for counts in (torch.tensor(5.0), torch.ones(2, 3)):
        with pytest.raises(ValueError, match=r"counts of shape \(\d,\), one for each class"):
            function(counts)


def test_the_way_from_pixels_to_rows_is_told_and_right() -> None:
    logits, targets = torch.randn(2, 4, 3, 5), torch.randint(4, (2, 3, 5))
    one_hot = torch.nn.functional.one_hot(targets, 4).movedim(-1, 1)
    targets[1, 2, 3] = 255
    rows, ids = logits.movedim(1, -1).flatten(0, -2), targets.flatten()
    with pytest.raises(ValueError, match=r"pass logits\.movedim\(1, -1\)\.flatten\(0, -2\), and"):
        balanced_softmax_loss(logits, targets, COUNTS)
    with pytest.raises(ValueError, match=r"targets\.argmax\(1\)\.flatten\(\) of one-hot"):
        balanced_softmax_loss(rows, one_hot, COUNTS)
    with pytest.raises(ValueError, match=r"ignored: keep = \(targets >= 0\) & \(targets <= 3\), "):
        balanced_softmax_loss(rows, ids, COUNTS)
    keep = (ids >= 0) & (ids <= 3)
    expected = torch.nn.functional.cross_entropy(
        logits + COUNTS.log()[:, None, None], targets, ignore_index=255
    )
    torch.testing.assert_close(balanced_softmax_loss(rows[keep], ids[keep], COUNTS), expected)
    ids = one_hot.argmax(1).flatten()
    torch.testing.assert_close(ids[keep], targets.flatten()[keep])


def test_counts_may_be_integers() -> None:
    logits, targets = torch.randn(3, 2), torch.tensor([0, 1, 1])
    counts = torch.tensor([1000, 3])
    assert torch.equal(
        balanced_softmax_loss(logits, targets, counts),
        balanced_softmax_loss(logits, targets, counts.float()),
    )


def test_a_class_vector_on_a_device_is_read_again_only_after_a_change() -> None:
    """The meta device stands in for a GPU: reading a value from it raises."""
    from balms_seg.losses import _checks

    vector = torch.ones(3, device="meta")
    check = partial(_checks.check_class_vector, name="counts", num_classes=3, upper=9.0)
    with pytest.raises((NotImplementedError, RuntimeError)):
        check(vector)
    _checks._remember_as_valid(vector)
    check(vector)
    vector.add_(1)
    with pytest.raises((NotImplementedError, RuntimeError)):
        check(vector)


@pytest.mark.gpu
@every_loss
def test_gpu_equals_cpu(name: str) -> None:
    loss, columns, _ = LOSSES[name]
    _, logits, targets = problem(name, torch.float32)
    on_gpu = logits.detach().cuda().requires_grad_()
    loss(logits, targets).backward()
    loss(on_gpu, targets.cuda()).backward()
    torch.testing.assert_close(on_gpu.grad.cpu(), logits.grad)
    with torch.autocast("cuda", dtype=torch.float16):
        assert loss(on_gpu, targets.cuda()).dtype == torch.float32


@pytest.mark.gpu
def test_gpu_values_outside_the_range_are_errors() -> None:
    logits, targets = torch.zeros(2, 3, device="cuda"), torch.tensor([0, 1], device="cuda")
    for value in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match="frequency in"):
            balanced_sigmoid_loss(logits, targets, torch.tensor([0.5, value, 0.1], device="cuda"))
    counts = torch.tensor([1.0, 2.0, 3.0], device="cuda")
    balanced_softmax_loss(logits, targets, counts)
    counts[1] = 0  # the vector was found valid before; its change must be noticed
    with pytest.raises(ValueError, match="counts positive"):
        balanced_softmax_loss(logits, targets, counts)
