"""What a registered set of instances is evaluated against: classes, counts, ground truth."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.utils.file_io import PathManager

from balms_seg.annotations import Annotations, read_annotations
from balms_seg.class_statistics import ClassStatistics
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.evaluation_set import groups_of_counts
from balms_seg.evaluation.lvis.ground_truth import GroundTruth, load_ground_truth

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegisteredSet:
    """Ground truth of a registered set, and how often its classes occur in training."""

    ground_truth: GroundTruth
    training: TrainingCounts
    class_ids: dict[Any, int]  # contiguous class id per category id of the json

    @classmethod
    def read(
        cls,
        metadata: Any,
        *,
        statistics: ClassStatistics | None = None,
        group_bounds: tuple[int, int] | None = None,
    ) -> RegisteredSet:
        """Read what the metadata of a set name.

        Args:
            metadata: of the set; see `LongTailedLVISEvaluator` for what it may hold.
            statistics: of the training set; without effect where its classes are others.
            group_bounds: largest number of training images of a rare and of a common class;
                None takes the groups of the json, then of the metadata, then of `statistics`.

        Raises:
            FileNotFoundError: the json is missing.
            ValueError: the set has no json, or one that cannot be evaluated on.
        """
        annotations = _annotations_of(metadata)
        class_ids = _contiguous_ids(metadata, annotations)
        if statistics is not None and not _has_classes_of(metadata, statistics):
            statistics = None
        if statistics is None:
            known = metadata.get("class_image_count") or annotations.facts.categories
            training = TrainingCounts.from_entries(known)
        else:
            training = TrainingCounts.from_statistics(statistics, class_ids)
        if group_bounds is None:
            letters = _by_category(metadata.get("class_frequency"), class_ids)
            if statistics is not None:
                letters = {**_letters_of(statistics, class_ids), **letters}
        else:
            source = str(metadata.json_file)
            letters = groups_of_counts(training, group_bounds, source=source)
        ground_truth = load_ground_truth(
            annotations,
            class_frequency=letters,
            own_groups=group_bounds is None,
            image_root=metadata.get("image_root"),
            match_file_names=metadata.get("match_file_names", "exact"),
            trust_annotations=metadata.get("trust_annotations", False),
        )
        return cls(ground_truth, training, class_ids)


def class_ids_of(metadata: Any) -> dict[Any, int]:
    """Contiguous class id per category id of a registered set's json.

    Raises:
        FileNotFoundError: the json is missing.
        ValueError: the set has no json, or the metadata know categories that it lacks.
    """
    return _contiguous_ids(metadata, _annotations_of(metadata))


def _annotations_of(metadata: Any) -> Annotations:
    json_file = metadata.get("json_file")
    if json_file is None:
        raise ValueError(
            f"Expected the metadata of data set '{metadata.name}' to name its json_file, but it "
            "does not; register the set with register_long_tailed_instances."
        )
    return read_annotations(PathManager.get_local_path(json_file))


def _contiguous_ids(metadata: Any, annotations: Annotations) -> dict[Any, int]:
    in_json = annotations.contiguous_ids
    class_ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if class_ids is None:
        return in_json
    absent = sorted(set(class_ids) - set(in_json), key=str)
    if absent:
        raise ValueError(
            f"Expected the categories of data set '{metadata.name}' in its json, but "
            f"{len(absent)} are missing, the first ids {absent[:5]}; evaluate on a json with the "
            "classes the data set was registered with."
        )
    return dict(class_ids)


def _has_classes_of(metadata: Any, statistics: ClassStatistics) -> bool:
    names = metadata.get("thing_classes")
    if names is None or list(names) == list(statistics.class_names):
        return True
    logger.warning(
        "The training set has other classes than '%s': no counts and groups are taken from it.",
        metadata.name,
    )
    return False


def _letters_of(statistics: ClassStatistics, class_ids: Mapping[int, int]) -> dict[int, str]:
    """Frequency letters per category id of the json."""
    letters = [statistics.group_names[group][0] for group in statistics.group_ids]
    return {category_id: letters[class_id] for category_id, class_id in class_ids.items()}


def _by_category(
    class_frequency: Sequence[str | None] | None, class_ids: Mapping[int, int]
) -> dict[int, str]:
    """Known frequency letters per category id of the json."""
    if class_frequency is None:
        return {}
    if len(class_frequency) != len(class_ids):
        raise ValueError(
            f"Expected {len(class_ids)} entries in class_frequency, one per class, but got "
            f"{len(class_frequency)}; take them from a training set with the same classes."
        )
    letters = {category_id: class_frequency[i] for category_id, i in class_ids.items()}
    return {category_id: letter for category_id, letter in letters.items() if letter}
