"""Where a run's lines go: all of them into log.txt, those that a reader follows to the terminal."""

from __future__ import annotations

import logging
import re
import sys

from detectron2.utils.logger import setup_logger

# What else a run logs (the environment, the configuration, the model, augmentations) is in log.txt.
_FOLLOWED = (
    "balms_seg",
    "detectron2.engine.train_loop",
    "detectron2.evaluation.evaluator",
    "detectron2.utils.events",
    "fvcore.common.checkpoint",
)
_FOR_SPREADSHEETS = "balms_seg.engine.run_results"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def start_log(output_dir: str, rank: int) -> None:
    """Begin `OUTPUT_DIR/log.txt` and, on the main process, the terminal's lines; without colours.

    To be called before detectron2's `default_setup`, which then adds no handlers of its own.

    Args:
        output_dir: of the run.
        rank: of this process; others than the main one write log.txt.rankN.
    """
    loggers = [logging.getLogger(name) for name in ("fvcore", "detectron2", "balms_seg")]
    before = [handler for logger in loggers for handler in logger.handlers]
    # In the very words of default_setup, since a second call with the same words does nothing.
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    setup_logger(output_dir, distributed_rank=rank)
    setup_logger(output_dir, distributed_rank=rank, name="balms_seg")
    for handler in (handler for logger in loggers for handler in logger.handlers):
        if handler in before:
            continue
        if getattr(handler, "stream", None) is sys.stdout:
            handler.addFilter(is_followed)
            handler.setFormatter(_Terminal("[%(asctime)s] %(message)s", "%m/%d %H:%M:%S"))
        else:
            line = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"
            handler.setFormatter(_WithoutColours(line, "%m/%d %H:%M:%S"))


def is_followed(record: logging.LogRecord) -> bool:
    """Whether the terminal shows a record.

    Not that of the error which ends a training: it is raised, and told by whoever catches it.
    """
    if record.name == "detectron2.engine.train_loop" and record.exc_info:
        return False
    if record.levelno >= logging.WARNING:
        return True
    if record.levelno < logging.INFO or record.name == _FOR_SPREADSHEETS:
        return False
    return any(record.name == name or record.name.startswith(f"{name}.") for name in _FOLLOWED)


class _WithoutColours(logging.Formatter):
    """detectron2 colours configurations and names of parameters within the text."""

    def format(self, record: logging.LogRecord) -> str:
        return _COLOUR.sub("", super().format(record))


class _Terminal(_WithoutColours):
    """The time and the text, behind the level where it is more than information."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname} " if record.levelno >= logging.WARNING else ""
        return f"{level}{super().format(record)}"
