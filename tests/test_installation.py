import base64
import hashlib
import io
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

from balms_seg.commands.command_line import run_command
from balms_seg.detectron2_wheel import edits
from balms_seg.detectron2_wheel import install as installer
from balms_seg.detectron2_wheel import wheel as wheel_maker


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """A source distribution with one file of every kind."""
    files = {
        "made-up-0.6/LICENSE": b"licence text",
        "made-up-0.6/setup.py": b"raise SystemExit",
        "made-up-0.6/tools/train.py": b"left out",
        "made-up-0.6/detectron2/__init__.py": b'__version__ = "0.6"\n',
        "made-up-0.6/detectron2/model_zoo/configs/a.yaml": b"A: 1\n",
        "made-up-0.6/projects/DeepLab/deeplab/__init__.py": b"x = np.bool\n",
    }
    path = tmp_path / "made-up-0.6.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_only_what_belongs_in_the_wheel_is_read_from_the_source_distribution(sdist: Path) -> None:
    assert wheel_maker.read_sdist(sdist) == {
        "LICENSE": b"licence text",
        "detectron2/__init__.py": b'__version__ = "0.6"\n',
        "detectron2/model_zoo/configs/a.yaml": b"A: 1\n",
        "detectron2/projects/deeplab/__init__.py": b"x = np.bool\n",
    }


def test_edits_replace_every_place_and_leave_their_input_alone() -> None:
    files = {"a.py": b"x = np.bool\ny = np.bool\n", "b.py": b"z = 1\n"}
    edited = wheel_maker.apply_edits(files, [edits.Edit("a.py", "np.bool", "bool", 2)])
    assert edited == {"a.py": b"x = bool\ny = bool\n", "b.py": b"z = 1\n"}
    assert files["a.py"] == b"x = np.bool\ny = np.bool\n"


def test_every_edit_that_does_not_hit_as_expected_is_named() -> None:
    files = {"a.py": b"np.bool\n"}
    unexpected = [
        edits.Edit("a.py", "np.bool", "bool", 2),
        edits.Edit("a.py", "np.int", "int", 1),
        edits.Edit("gone.py", "x", "y", 1),
    ]
    with pytest.raises(wheel_maker.InstallError) as caught:
        wheel_maker.apply_edits(files, unexpected)
    message = str(caught.value)
    assert "a.py: expected 2 of 'np.bool', but found 1" in message
    assert "a.py: expected 1 of 'np.int', but found 0" in message
    assert "gone.py: no such file" in message


def test_an_edit_that_breaks_the_file_is_refused() -> None:
    with pytest.raises(wheel_maker.InstallError, match=r"a\.py: does not compile"):
        wheel_maker.apply_edits({"a.py": b"x = 1\n"}, [edits.Edit("a.py", "= 1", "= (", 1)])


def test_a_wrong_sha256_stops_before_the_archive_is_opened(
    sdist: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = []
    monkeypatch.setattr(wheel_maker.tarfile, "open", lambda *args: opened.append(args))
    with pytest.raises(wheel_maker.InstallError, match="expected sha256 5d2e9e51"):
        wheel_maker.make_wheel(sdist, tmp_path / "wheels")
    assert not opened
    assert not (tmp_path / "wheels").exists()


def test_record_holds_the_hash_and_size_of_every_file(tmp_path: Path) -> None:
    files = {"LICENSE": b"licence", "detectron2/__init__.py": b"x = 1\n"}
    path = wheel_maker.write_wheel(files, tmp_path, ["detectron2/__init__.py"])
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        record = wheel.read("detectron2-0.6.dist-info/RECORD").decode().splitlines()
        rows = dict(row.split(",", 1) for row in record)
        assert sorted(rows) == sorted(names)
        assert rows.pop("detectron2-0.6.dist-info/RECORD") == ","
        for name, row in rows.items():
            data = wheel.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert row == f"sha256={digest},{len(data)}"
        metadata = wheel.read("detectron2-0.6.dist-info/METADATA").decode()
    assert "Name: detectron2\nVersion: 0.6\n" in metadata
    assert "- detectron2/__init__.py" in metadata
    assert "detectron2-0.6.dist-info/licenses/LICENSE" in names


def test_the_same_files_give_the_same_wheel(tmp_path: Path) -> None:
    files = {"detectron2/__init__.py": b"x = 1\n"}
    first = wheel_maker.write_wheel(files, tmp_path / "first", []).read_bytes()
    assert wheel_maker.write_wheel(files, tmp_path / "second", []).read_bytes() == first


@pytest.fixture
def stub() -> types.ModuleType:
    module = types.ModuleType("detectron2._C")
    exec(edits.STUB_EXTENSION, module.__dict__)
    return module


def test_the_stub_says_what_is_missing_on_use(stub: types.ModuleType) -> None:
    with pytest.raises(RuntimeError, match=r"_C\.deform_conv_forward needs .* compiled extension"):
        stub.deform_conv_forward(1)


def test_the_stub_can_be_probed(stub: types.ModuleType) -> None:
    assert not hasattr(stub, "COCOevalEvaluateImages")
    assert not hasattr(stub, "__path__")
    assert not stub.has_cuda()
    assert "pure-Python" in stub.get_compiler_version()


@pytest.mark.parametrize("banner", ["pip 26.0 from x", "pip 26.3 from x", "pip 30.1 from x"])
def test_a_pip_that_would_refuse_is_named_before_it_is_tried(banner: str) -> None:
    with pytest.raises(installer.InstallError, match=r"pip install 'pip<26'"):
        installer.check_pip_version(banner)


def test_a_pip_that_works_or_is_missing() -> None:
    installer.check_pip_version("pip 25.3 from x (python 3.11)")
    installer.check_pip_version("pip 23.2.1 from x (python 3.11)")
    with pytest.raises(installer.InstallError, match="ensurepip"):
        installer.check_pip_version("")


def test_nothing_is_done_where_detectron2_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer, "import_problem", lambda module: None)
    monkeypatch.setattr(installer, "_pip", lambda *arguments: pytest.fail("pip was run"))
    run_command("install-detectron2", [])
    assert "nothing to do" in capsys.readouterr().out


def test_a_detectron2_that_cannot_be_imported_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer, "import_problem", lambda module: "ImportError: libcudart")
    monkeypatch.setattr(installer, "_pip", lambda *arguments: pytest.fail("pip was run"))
    with pytest.raises(SystemExit, match="libcudart"):
        run_command("install-detectron2", [])


def test_import_problem_tells_missing_from_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("raise ImportError('no such library')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert installer.import_problem("json") is None
    assert installer.import_problem("there_is_no_such_package") == ""
    assert "no such library" in installer.import_problem("broken_package")


def test_a_missing_source_distribution_is_an_error_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone.tar.gz"
    with pytest.raises(SystemExit, match=r"install-detectron2: .*gone\.tar\.gz"):
        run_command("install-detectron2", ["--sdist", str(gone), "--wheel-dir", str(tmp_path)])


def test_a_missing_package_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from balms_seg.requirements import require

    assert require("json", "Reading").__name__ == "json"
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(ModuleNotFoundError, match=r"Training needs .*balms-seg install-detectron2"):
        require("detectron2", "Training")


def run_pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_real_wheel_is_listed_and_removed_by_pip(tmp_path: Path) -> None:
    try:
        source = installer.download_sdist(tmp_path)
    except installer.InstallError as error:
        pytest.skip(f"the source distribution cannot be downloaded here: {error}")
    wheel = wheel_maker.make_wheel(source, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "detectron2/model_zoo/configs/Base-RCNN-FPN.yaml" in names
    assert "detectron2/projects/point_rend/__init__.py" in names

    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    run_pip("--python", python, "install", "--no-deps", str(wheel))
    assert "detectron2==0.6" in run_pip("--python", python, "list", "--format=freeze")
    packages = next((venv / "lib").glob("python3*/site-packages"))
    assert (packages / "detectron2" / "_C.py").is_file()
    run_pip("--python", python, "uninstall", "--yes", "detectron2")
    assert not (packages / "detectron2").exists()
    assert "detectron2" not in run_pip("--python", python, "list", "--format=freeze")


def test_every_step_that_takes_a_while_is_announced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []
    monkeypatch.setattr(installer, "import_problem", lambda module: "")
    monkeypatch.setattr(installer, "download_sdist", lambda folder: done.append("download"))
    monkeypatch.setattr(installer, "make_wheel", lambda sdist, folder: done.append("make"))
    monkeypatch.setattr(installer, "install_wheel", lambda *paths: done.append("install"))
    installer.install(None, None, say=lambda line: done.append(line.split()[1]))
    assert done == ["1/3:", "download", "2/3:", "make", "3/3:", "install"]
