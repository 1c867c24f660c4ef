"""What the engine's tests share: the made-up data, and loggers that are put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from detectron2.utils import logger as detectron2_logger
from made_up_data import write_data_sets

LOGGERS = ("balms_seg", "detectron2", "fvcore")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Settings that register and use a training and a validation set."""
    return write_data_sets(tmp_path_factory.mktemp("made_up"))


@pytest.fixture(scope="module", autouse=True)
def _put_loggers_back() -> Iterator[None]:
    """detectron2 takes its loggers out of the hierarchy and writes into output folders."""
    patch = pytest.MonkeyPatch()
    # Asks compilers for their versions, which takes longer than training does here.
    patch.setattr("detectron2.engine.defaults.collect_env_info", lambda: "")
    yield
    patch.undo()
    detectron2_logger.setup_logger.cache_clear()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = True
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """caplog, which also hears the loggers that detectron2 takes out of the hierarchy."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(caplog.handler)
    yield caplog
    for logger in loggers:
        logger.removeHandler(caplog.handler)
