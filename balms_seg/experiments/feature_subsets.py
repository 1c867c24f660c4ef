"""Long-tailed subsets of an image set's features, one a seed, as `balms-seg features` writes them.

A seed is that of the subset, of initialisation and of order. Settings are chosen on held-out
images: a tenth of the training images of each class, which the subsets of those runs are not drawn
from, and other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from balms_seg.data.images.image_lists import read_image_records
from balms_seg.data.images.image_records import ImageRecords
from balms_seg.data.images.image_split import split_images
from balms_seg.data.images.subset_files import build_subset, format_list

META_SHARE = 0.2  # of each class's training images, where the meta set is held out of them
_HELD_OUT_SHARE, _HELD_OUT_SEED = 0.1, 100


@dataclass(frozen=True)
class FeatureSubset:
    """Which images a run trains on, and is judged on.

    Attributes:
        train: file of the training images' features, which the subsets are drawn from.
        test: file of the test images' features.
        rho: imbalance of the subsets.
        held_out: settings are chosen, on images that are held out of the training images.
        parted: a part of the subset is the set `features_meta`, and not trained on.
    """

    train: str
    test: str
    rho: int
    held_out: bool = False
    parted: bool = False

    @property
    def words(self) -> list[str]:
        """What tells these subsets from others of the same features."""
        return [f"rho{self.rho}", *["held-out"] * self.held_out, *["parted"] * self.parted]

    def read(self) -> None:
        """Read the features once, for the forks of this process.

        Raises:
            FileNotFoundError: they are not there.
        """
        for path in (self.train, self.test):
            if not Path(path).is_file():
                raise FileNotFoundError(
                    f"Expected features in {path}, but there are none; balms-seg features makes "
                    "them, as the table's file says."
                )
            read_image_records(str(Path(path).resolve()), "")

    def opts(self, seed: int) -> list[str]:
        """KEY, VALUE that name the images; their lists are written where they are not there."""
        train, test = (str(Path(path).resolve()) for path in (self.train, self.test))
        lists = Path(train).parent / "lists" / "_".join([*self.words, f"seed{seed}"])
        if not (lists / "train.txt").is_file():
            self._write_lists(read_image_records(train, ""), lists, seed)
        sets = [["features_train", str(lists / "train.txt"), train]]
        if self.parted:
            sets.append(["features_meta", str(lists / "meta.txt"), train])
        if self.held_out:
            sets.append(["features_test", str(lists / "held_out.txt"), train])
        else:
            sets.append(["features_test", test, ""])
        return ["DATASETS.REGISTER_IMAGES", repr(sets)]

    def _write_lists(self, whole: ImageRecords, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True)
        parts = {}
        if self.held_out:
            whole, parts["held_out"] = split_images(whole, _HELD_OUT_SHARE, seed=_HELD_OUT_SEED)
        subset = build_subset(whole, rho=float(self.rho), seed=seed)
        if self.parted:
            subset, parts["meta"] = split_images(subset, META_SHARE, seed=seed)
        for name, part in {**parts, "train": subset}.items():
            (folder / f"{name}.txt").write_text(format_list(part))
