"""Takes in detections, checks every value, and makes a `DetectionTable` of them.

What other programs write is taken where it can mean one thing only: ids and numbers as text, null
and empty lists for what is absent, flat polygons; `balms_seg.annotations.fields` says what.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

import numpy as np

from balms_seg.annotations import canonical_id, fields
from balms_seg.annotations.errors import FieldError, shown
from balms_seg.evaluation.lvis.detection_table import DetectionTable, MaskColumn
from balms_seg.evaluation.lvis.ground_truth import GroundTruth
from balms_seg.evaluation.predictions.detection_entry import DetectionEntry
from balms_seg.evaluation.predictions.exact_copies import count_copies
from balms_seg.evaluation.predictions.image_names import resolve_images, unknown_ids_message
from balms_seg.evaluation.predictions.result_masks import BadMask, MaskBuilder
from balms_seg.wording import agreeing, counted

logger = logging.getLogger(__name__)

_REQUIRED = ("image_id", "category_id", "score")
_NUM_NAMED = 5
Value = TypeVar("Value")


class TableBuilder:
    """Detections taken in so far, as columns."""

    def __init__(
        self, ground_truth: GroundTruth, *, source: str = "", with_masks: bool = True
    ) -> None:
        """Start without detections.

        Args:
            ground_truth: whose images and classes they are of.
            source: the file they come from, for messages.
            with_masks: whether masks are kept and checked; else they play no part.
        """
        self._ground_truth = ground_truth
        self._source = source
        self._of_source = f" in {source}" if source else ""
        self._number = 0
        self._ids: dict[str, dict[Any, int]] = {"image_id": {}, "category_id": {}}
        self._different: dict[str, list[Any]] = {"image_id": [], "category_id": []}
        self._codes: dict[str, list[np.ndarray]] = {"image_id": [], "category_id": []}
        self._scores: list[np.ndarray] = []
        self._boxes: list[np.ndarray] = []
        self._masks = MaskBuilder() if with_masks else None

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Take in detections in the LVIS or COCO results format.

        Raises:
            ValueError: one has another form; the message has its position.
        """
        if not entries:
            return
        if isinstance(entries[0], DetectionEntry):
            self._add_typed(entries)
            return
        try:
            image_ids, category_ids, scores = zip(
                *map(itemgetter(*_REQUIRED), entries), strict=True
            )
            boxes = [entry.get("bbox") for entry in entries]
        except (KeyError, TypeError, IndexError, AttributeError):
            self._fail_for_form(entries)
        self._codes["image_id"].append(self._add_ids("image_id", image_ids, entries))
        self._codes["category_id"].append(self._add_ids("category_id", category_ids, entries))
        self._scores.append(self._add_scores(scores, entries))
        self._boxes.append(self._add_boxes(boxes, entries))
        self._add_masks([entry.get("segmentation") for entry in entries], entries)

    def _add_typed(self, entries: Sequence[Any]) -> None:
        """The same, faster, for `DetectionEntry`."""
        boxes = [entry.bbox for entry in entries]
        masks = [entry.segmentation for entry in entries]
        for key, ids in (
            ("image_id", [entry.image_id for entry in entries]),
            ("category_id", [entry.category_id for entry in entries]),
        ):
            self._codes[key].append(self._add_ids(key, ids, entries))
        self._scores.append(np.array([entry.score for entry in entries], np.float64))
        if boxes.count(None) == len(boxes) and all(masks):  # of masks alone
            self._boxes.append(np.full((len(boxes), 4), np.nan))
        elif None in boxes:
            self._boxes.append(self._add_boxes(boxes, entries))
        else:
            flat = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes))
            self._boxes.append(flat.reshape(-1, 4))
        self._add_masks(masks, entries)

    def _add_masks(self, masks: list[Any], entries: Sequence[Any]) -> None:
        if self._masks is not None:
            try:
                self._masks.add(masks)
            except BadMask as error:
                self._fail(error.place, entries[error.place], str(error))
        self._number += len(entries)

    def build(self) -> DetectionTable:
        """All detections.

        Raises:
            ValueError: of another data set, an unknown image or class, or a mask that is damaged or
                of another size than its image.
        """
        truth = self._ground_truth
        images = self._indices(
            "image_id",
            resolve_images(
                self._different["image_id"],
                [canonical_id(id_) for id_ in truth.image_ids],
                truth.annotations.image_table.paths,
                source=self._source or "The detections",
            ),
            truth.image_ids,
        )
        by_id = {canonical_id(id_): index for index, id_ in enumerate(truth.category_ids)}
        known = [by_id.get(id_, -1) for id_ in self._different["category_id"]]
        classes = self._indices("category_id", known, truth.category_ids)
        scores = np.concatenate([np.zeros(0), *self._scores])
        boxes = np.concatenate([np.zeros((0, 4)), *self._boxes])
        table = DetectionTable(images, classes, scores, boxes, self._build_masks(images))
        self._say_what_is_odd(table)
        return table

    def _build_masks(self, images: np.ndarray) -> MaskColumn:
        if self._masks is None:
            none = np.zeros(len(images), np.int64)
            return MaskColumn(b"", none, none, np.zeros((len(images), 2), np.int32))
        sizes = np.array([size or (0, 0) for size in self._ground_truth.image_sizes], np.int64)
        try:
            return self._masks.build(sizes.reshape(-1, 2)[images])
        except BadMask as error:
            image_id = self._ground_truth.image_ids[images[error.place]]
            raise ValueError(
                f"Detection {error.place}{self._of_source}, in image {image_id}: {error}"
            ) from error

    def _add_ids(
        self, key: str, ids: Sequence[Any], entries: Sequence[Mapping[str, Any]]
    ) -> np.ndarray:
        """Number of each id among the different ones, (n,) int32."""
        known = self._ids[key]
        if not set(map(type, ids)) <= {int, str}:
            ids = self._each(lambda value: canonical_id(value, key), ids, entries)
        codes = np.fromiter(map(known.get, ids, repeat(-1)), np.int32, len(ids))
        for place in np.flatnonzero(codes < 0).tolist():
            id_ = ids[place]
            if id_ not in known:
                (plain,) = self._each(
                    lambda value: canonical_id(value, key), [id_], entries[place:]
                )
                if plain not in known:
                    known[plain] = len(self._different[key])
                    self._different[key].append(plain)
                known[id_] = known[plain]
            codes[place] = known[id_]
        return codes

    def _indices(self, key: str, indices: list[int], known: Sequence[Any]) -> np.ndarray:
        """Index in the ground truth of each detection's id, (n,) int32."""
        codes = np.concatenate([np.zeros(0, np.int32), *self._codes[key]])
        found = np.array([*indices, -1], np.int32)[codes]
        bad = np.flatnonzero(found < 0)
        if len(bad) and len(bad) == len(found):
            raise ValueError(unknown_ids_message(key, self._different[key], known, len(found)))
        if len(bad):
            named = "; ".join(
                f"#{place} {key} {self._different[key][codes[place]]}"
                for place in bad[:_NUM_NAMED].tolist()
            )
            raise ValueError(
                f"Expected every {key} to be one of the ground truth's, but {len(bad)} of "
                f"{counted(len(found), 'detection')}{self._of_source} "
                f"{agreeing(len(bad), 'breaks', 'break')} this: "
                f"{named}{'; ...' if len(bad) > _NUM_NAMED else ''}. Check the data set and the "
                "model's output."
            )
        return found

    def _add_scores(
        self, scores: Sequence[Any], entries: Sequence[Mapping[str, Any]]
    ) -> np.ndarray:
        if not set(map(type, scores)) <= {int, float}:
            scores = self._each(lambda value: fields.number(value, "score"), scores, entries)
        try:
            values = np.array(scores, np.float64)
        except OverflowError:
            values = np.array(
                self._each(lambda value: fields.number(value, "score"), scores, entries)
            )
        for place in np.flatnonzero(~np.isfinite(values)).tolist():
            self._fail(place, entries[place], f"Expected finite scores, but got {values[place]}.")
        return values

    def _add_boxes(self, boxes: Sequence[Any], entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(n, 4) float64, nan where there is no box."""
        if set(map(type, boxes)) == {list} and set(map(len, boxes)) == {4}:
            flat = [value for box in boxes for value in box]
            if set(map(type, flat)) <= {int, float}:
                try:
                    values = np.array(flat, np.float64).reshape(-1, 4)
                except OverflowError:
                    values = np.full((1, 4), np.nan)
                if np.isfinite(values).all():
                    return values
        taken = self._each(fields.box, boxes, entries)
        for place, box in enumerate(taken):
            if box is None and not entries[place].get("segmentation"):
                self._fail(place, entries[place], "Expected 'bbox' or 'segmentation' in each.")
        return np.array([(np.nan,) * 4 if box is None else box for box in taken], np.float64)

    def _each(
        self,
        take: Callable[[Any], Value],
        values: Sequence[Any],
        entries: Sequence[Mapping[str, Any]],
    ) -> list[Value]:
        """Every value, taken; an error names its detection."""
        taken = []
        for place, value in enumerate(values):
            try:
                taken.append(take(value))
            except FieldError as error:
                self._fail(place, entries[place], f"It has {error}.")
        return taken

    def _fail_for_form(self, entries: Sequence[Any]) -> NoReturn:
        for place, entry in enumerate(entries):
            if not isinstance(entry, Mapping):
                self._fail(place, entry, "Expected every detection to be an object.")
        for key in _REQUIRED:
            lacking = [place for place, entry in enumerate(entries) if key not in entry]
            if lacking:
                self._fail(lacking[0], entries[lacking[0]], f"Expected '{key}' in each.")
        raise AssertionError("all detections have the right form")

    def _fail(self, place: int, entry: Any, reason: str) -> NoReturn:
        raise ValueError(
            f"Detection {self._number + place}{self._of_source} cannot be used: {reason} It is "
            f"{shown(entry)}."
        )

    def _say_what_is_odd(self, table: DetectionTable) -> None:
        """Say in one line what of a file takes no part, and what is there twice."""
        if not self._source:
            return
        notes = []
        for task, shape in (("bbox", "box"), ("segm", "mask")):
            number = len(table) - int(table.has_shape(task).sum())
            if 0 < number < len(table):
                notes.append(f"{number} without a {shape} (no part of the AP of {task})")
        copies = count_copies(table)
        if copies:
            notes.append(
                f"{counted(copies, 'exact copy')} of others (kept, and false where the first is "
                "right, as in lvis-api and pycocotools)"
            )
        if notes:
            what = counted(len(table), "detection")
            logger.warning("Of %s in %s: %s.", what, self._source, "; ".join(notes))
