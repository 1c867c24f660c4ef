"""Lists of long-tailed subsets and packs of the images they use."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from balms_seg.commands.command_line import run_command
from balms_seg.data.images.image_files import read_image
from balms_seg.data.images.image_lists import read_image_records

CLASSES = ("ant", "bee", "cat")


def write_archive(path: Path, per_class: int = 20) -> Path:
    """Images whose pixels say which they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for part, number in (("train", per_class), ("test", 4)):
            for label, name in enumerate(CLASSES):
                for i in range(number):
                    pixels = np.full((4, 4, 3), (label, i, part == "test"), np.uint8)
                    buffer = io.BytesIO()
                    Image.fromarray(pixels).save(buffer, "PNG")
                    archive.writestr(f"{part}/{name}/{i:02d}.png", buffer.getvalue())
    return path


def test_lists_are_read_back_with_their_images(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "images.zip")
    run_command("subset", [str(archive), "--rho", "10", "5", "--output", str(tmp_path / "lists")])
    found = {
        rho: read_image_records(
            str(tmp_path / "lists" / f"exponential_rho{rho}_seed0.txt"), str(archive)
        )
        for rho in (10, 5)
    }
    labels = [record["label"] for record in found[10].records]
    assert np.bincount(labels).tolist() == [20, 6, 2]
    assert found[10].class_names == CLASSES
    keys = {rho: {record["key"] for record in one.records} for rho, one in found.items()}
    assert keys[10] < keys[5]
    assert all(
        read_image(record["file_name"])[0, 0].tolist()
        == [record["label"], int(Path(record["key"]).stem), 0]
        for record in found[10].records
    )


def test_a_pack_gives_the_subsets_of_the_whole_archive(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "images.zip")
    pack = tmp_path / "pack" / "images.zip"
    command = ["--rho", "10", "5", "--seed", "3"]
    run_command(
        "subset",
        [str(archive), *command, "--output", str(tmp_path / "a"), "--pack", str(pack)]
        + ["--whole", "test"],
    )
    run_command("subset", [str(pack), *command, "--output", str(tmp_path / "b")])
    for path in (tmp_path / "a").iterdir():
        assert path.read_text() == (tmp_path / "b" / path.name).read_text()
        with zipfile.ZipFile(pack) as content:
            assert content.read(f"lists/{path.name}").decode() == path.read_text()
    train, test = (read_image_records(str(pack), part).records for part in ("train", "test"))
    assert (len(train), len(test)) == (20 + 8 + 4, 12)
    with zipfile.ZipFile(pack) as packed, zipfile.ZipFile(archive) as whole:
        for record in train + test:
            assert packed.read(record["key"]) == whole.read(record["key"])
    first = pack.read_bytes()
    run_command("subset", [str(archive), *command, "--pack", str(pack), "--whole", "test"])
    assert pack.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rho", "0.1"], "at least 1, but got 0.1"),
        (["--rho", "100"], "without a sample"),
        (["--largest", "30", "--rho", "5"], "larger than the data"),
        (["--root", "absent"], "a folder absent in"),
    ],
)
def test_a_subset_that_does_not_exist_is_an_error(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "images.zip")
    with pytest.raises(SystemExit, match=message):
        run_command("subset", [str(archive), *arguments, "--output", str(tmp_path / "lists")])
    assert not (tmp_path / "lists").exists()


@pytest.mark.data
def test_the_pack_of_cifar_holds_half_of_the_archive(tmp_path: Path, shared_data: Path) -> None:
    pack = tmp_path / "cifar10-jpeg.zip"
    run_command(
        "subset", [str(shared_data / "cifar10-jpeg.zip"), "--pack", str(pack), "--whole", "test"]
    )
    assert len(read_image_records(str(pack), "train").records) == 20_431
    assert len(read_image_records(str(pack), "test").records) == 10_000
