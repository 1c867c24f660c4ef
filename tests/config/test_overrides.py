"""KEY VALUE pairs of the command line."""

import pytest

from balms_seg.engine import load_config

TOY = "toy/base.yaml"


def test_a_whole_number_will_do_where_a_key_holds_a_fraction() -> None:
    cfg = load_config(TOY, ["SOLVER.BASE_LR", "1", "MODEL.METHODS.LOGIT_ADJUSTMENT.TAU", "2"])
    assert (cfg.SOLVER.BASE_LR, cfg.MODEL.METHODS.LOGIT_ADJUSTMENT.TAU) == (1.0, 2.0)
    assert isinstance(cfg.SOLVER.BASE_LR, float)


@pytest.mark.parametrize(("key", "word"), [("SOLVER.MAX_ITER", "2.5"), ("SOLVER.BASE_LR", "ten")])
def test_a_value_of_another_type_names_the_key_and_what_it_holds(key: str, word: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} is {word} on the command line; expected"):
        load_config(TOY, [key, word])
