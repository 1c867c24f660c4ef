"""An evaluation set with its frequency groups, and the tasks that detections allow on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from balms_seg.annotations import read_annotations
from balms_seg.evaluation.lvis.category_counts import TrainingCounts
from balms_seg.evaluation.lvis.ground_truth import GroundTruth, load_ground_truth

_KEY_OF_TASK = {"bbox": "bbox", "segm": "segmentation"}


@dataclass(frozen=True)
class EvaluationSet:
    """Ground truth with what is known of the training set.

    Attributes:
        name: for people.
        ground_truth: annotations and groups.
        training: training images and instances per category id.
    """

    name: str
    ground_truth: GroundTruth
    training: TrainingCounts

    @classmethod
    def from_json(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        training: TrainingCounts | None = None,
        group_bounds: tuple[int, int] | None = None,
        image_root: str | None = None,
        match_file_names: str = "exact",
        trust_annotations: bool = False,
    ) -> EvaluationSet:
        """Read a COCO- or LVIS-style json.

        A class belongs to the group its `frequency` field says; where it has none, to the one that
        its number of training images gives; where that is unknown too, to none.

        Args:
            path: the json.
            name: for people; the file's name where None.
            training: counts of the training set; those in the json's categories where None.
            group_bounds: largest number of training images of a rare and of a common class; where
                given, the groups follow from the numbers alone.
            image_root: folder of the images, for sizes that the json lacks.
            match_file_names: see `ImageFolder.of`.
            trust_annotations: see `load_ground_truth`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the json is malformed, or bounds are given and the numbers are unknown.
        """
        annotations = read_annotations(path)
        if not annotations.facts.has_list:
            raise ValueError(
                f"{annotations.facts.source} has no list named annotations, as sets for "
                "tests have none; there is nothing to evaluate detections with."
            )
        training = training or TrainingCounts.from_entries(annotations.facts.categories)
        if group_bounds is None:
            letters = training.frequency()
        else:
            letters = groups_of_counts(training, group_bounds, source=str(path))
        return cls(
            name=name or Path(path).name,
            ground_truth=load_ground_truth(
                annotations,
                class_frequency=letters,
                own_groups=group_bounds is None,
                image_root=image_root,
                match_file_names=match_file_names,
                trust_annotations=trust_annotations,
            ),
            training=training,
        )

    def possible_tasks(self, shape_keys: Collection[str]) -> tuple[str, ...]:
        """Tasks of "bbox" and "segm" that the ground truth has shapes for.

        Args:
            shape_keys: of "bbox" and "segmentation", those that detections have.
        """
        has_masks = self.ground_truth.has_masks
        return tuple(
            task
            for task, key in _KEY_OF_TASK.items()
            if (task == "bbox" or has_masks) and key in shape_keys
        )


def groups_of_counts(
    training: TrainingCounts, bounds: tuple[int, int], *, source: str
) -> dict[int, str]:
    """The frequency letter of each category id that its training images give.

    Args:
        training: has to know the training images.
        bounds: as for `TrainingCounts.frequency`.
        source: the json's name, for errors.

    Raises:
        ValueError: the training images are unknown, or the bounds do not ascend.
    """
    if not training.images:
        raise ValueError(
            f"Group bounds need the training images of each class, which {source} does not "
            "say; give the training annotations too."
        )
    return training.frequency(bounds)
