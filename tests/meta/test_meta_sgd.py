"""Which optimisers the meta step accepts, and what it reads from them."""

import pytest
import torch
from torch import nn

from balms_seg.meta import sgd_settings


def test_every_group_has_its_current_rate_and_its_own_settings() -> None:
    layer = nn.Linear(3, 2)
    groups = [
        {"params": [layer.bias], "weight_decay": 0.0},
        {"params": [nn.Parameter(torch.zeros(1)), layer.weight]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=1e-4)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda _: 0.5, lambda _: 0.25])
    layer(torch.ones(1, 3)).sum().backward()
    weight, bias = sgd_settings(optimizer, [layer.weight, layer.bias])
    assert (weight.lr, bias.lr) == (0.025, 0.05)
    assert (weight.weight_decay, bias.weight_decay) == (1e-4, 0.0)
    assert (weight.momentum, weight.dampening, weight.nesterov) == (0.9, 0.2, False)
    assert weight.momentum_buffer is None

    optimizer.step()
    warm_up.step()
    weight, _ = sgd_settings(optimizer, [layer.weight, layer.bias])
    assert weight.momentum_buffer is optimizer.state[layer.weight]["momentum_buffer"]


def with_clipping(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """As detectron2 wraps an optimiser: a class of its own, made on the fly."""
    kind = type(optimizer)
    optimizer.__class__ = type(f"{kind.__name__}WithGradientClip", (kind,), {})
    return optimizer


def test_gradient_clipping_is_refused() -> None:
    layer = nn.Linear(3, 2)
    optimizer = with_clipping(torch.optim.SGD(layer.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"SGDWithGradientClip.*SOLVER\.CLIP_GRADIENTS\.ENABLED"):
        sgd_settings(optimizer, layer.parameters())


def test_clipping_as_detectron2_makes_it_is_refused() -> None:
    solver = pytest.importorskip("detectron2.solver.build")
    config = pytest.importorskip("detectron2.config").get_cfg()
    config.SOLVER.CLIP_GRADIENTS.ENABLED = True
    layer = nn.Linear(3, 2)
    clipped = solver.maybe_add_gradient_clipping(config, torch.optim.SGD)
    with pytest.raises(TypeError, match=r"SOLVER\.CLIP_GRADIENTS\.ENABLED"):
        sgd_settings(clipped(layer.parameters(), lr=0.1), layer.parameters())


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.RMSprop])
def test_another_optimiser_is_refused(kind: type[torch.optim.Optimizer]) -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=rf"torch\.optim\.SGD.*{kind.__name__}.*SOLVER\.OPTIMIZER"):
        sgd_settings(kind(layer.parameters()), layer.parameters())


def test_a_parameter_of_no_group_is_an_error() -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD([layer.weight], lr=0.1)
    with pytest.raises(ValueError, match=r"shape \(2,\) is in none of its groups"):
        sgd_settings(optimizer, layer.parameters())


def test_maximising_is_refused() -> None:
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, maximize=True)
    with pytest.raises(ValueError, match="maximize"):
        sgd_settings(optimizer, layer.parameters())
