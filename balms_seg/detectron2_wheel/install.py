"""Install detectron2 0.6 as a pure-Python wheel, unless `import detectron2` already works.

detectron2 is not published under its own name. Its Python files are, in a source distribution whose
C++ sources are missing, so that building it fails. Mask R-CNN does not need the compiled part, so
this downloads that distribution with pip, checks its sha256, applies the edits of `edits.py`,
writes a wheel named detectron2 and installs it. No compiler is needed.

torch and setuptools have to be installed first: pip runs the distribution's setup.py, which
imports both.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from balms_seg.detectron2_wheel.wheel import SDIST_SHA256, VERSION, InstallError, make_wheel

SDIST_NAME = "pb1-detectron2"
FIRST_REFUSING_PIP = 26


def import_problem(module: str) -> str | None:
    """Why `import module` fails in a fresh interpreter.

    Returns:
        None where it works, "" where there is no such module, else what the interpreter said.
    """
    find = f"import importlib.util as u, sys; sys.exit(3 * (u.find_spec({module!r}) is None))"
    # From an empty folder: a source tree in the current one is not an installation.
    with tempfile.TemporaryDirectory() as empty:
        if subprocess.run([sys.executable, "-c", find], cwd=empty).returncode == 3:
            return ""
        command = [sys.executable, "-c", f"import {module}"]
        run = subprocess.run(command, cwd=empty, capture_output=True, text=True)
    return None if run.returncode == 0 else run.stderr.strip()


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def check_pip_version(banner: str) -> None:
    """Stop where pip is missing or newer than those that accept the distribution.

    Args:
        banner: What `pip --version` printed.

    Raises:
        InstallError: no version in the banner, or one from 26 on.
    """
    found = re.match(r"pip (\d+)\.\d+", banner)
    if found is None:
        raise InstallError(
            f"{sys.executable} has no working pip; run `{sys.executable} -m ensurepip`."
        )
    if int(found[1]) >= FIRST_REFUSING_PIP:
        raise InstallError(
            f"Expected pip 23.2 to 25.3, but this is {found[0]}: it refuses detectron2's source "
            "distribution (a direct address in the metadata of an optional extra). "
            f"Run `{sys.executable} -m pip install 'pip<26'`, then this again."
        )


def download_sdist(directory: Path) -> Path:
    """Download the source distribution.

    pip compares the hash before it runs the distribution's setup.py for the metadata.

    Raises:
        InstallError: torch or setuptools is missing, pip is too new, or it cannot download.
    """
    check_pip_version(_pip("--version").stdout)
    for module in ("torch", "setuptools"):
        reason = import_problem(module)
        if reason is not None:
            raise InstallError(
                f"{module} has to be installed before detectron2: {reason or 'it is not there'}. "
                f"Run `{sys.executable} -m pip install {module}`."
            )
    pinned = directory / "requirement.txt"
    pinned.write_text(f"{SDIST_NAME}=={VERSION} --hash=sha256:{SDIST_SHA256}\n")
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    run = _pip("download", *options, "--dest", str(directory), "--requirement", str(pinned))
    archives = sorted(directory.glob("*.tar.gz"))
    if run.returncode != 0 or len(archives) != 1:
        output = (run.stdout + run.stderr).strip()
        raise InstallError(
            f"pip could not download {SDIST_NAME}=={VERSION}:\n{output}\nWhere the machine has no "
            "network, fetch that source distribution elsewhere and pass it with --sdist."
        )
    return archives[0]


def install_wheel(wheel: Path, constraint: Path | None) -> None:
    """Install the wheel and what it requires, and check that it can be imported.

    Raises:
        InstallError: with what pip or Python said.
    """
    options = ["--constraint", str(constraint)] if constraint else []
    run = _pip("install", "--quiet", *options, str(wheel))
    if run.returncode != 0:
        output = (run.stdout + run.stderr).strip()
        raise InstallError(f"pip could not install {wheel.name}:\n{output}")
    problem = import_problem("detectron2")
    if problem is not None:
        raise InstallError(f"detectron2 was installed but cannot be imported:\n{problem}")


def _say(line: str) -> None:
    print(line, flush=True)  # the next one may be a minute away


def install(
    constraint: Path | None,
    sdist: Path | None,
    *,
    say: Callable[[str], None] = _say,
) -> str:
    """Install detectron2 where it is not there yet; returns the line to print.

    Args:
        constraint: pip constraints for its requirements.
        sdist: a downloaded source distribution; None downloads it.
        say: takes a line before each step that takes a while.

    Raises:
        InstallError: with what to do about it.
    """
    problem = import_problem("detectron2")
    if problem is None:
        return "detectron2: already importable, nothing to do"
    if problem:
        raise InstallError(
            f"detectron2 is installed but cannot be imported:\n{problem}\nInstall what it lacks, "
            f"or run `{sys.executable} -m pip uninstall detectron2` and then this again."
        )
    with tempfile.TemporaryDirectory() as scratch:
        if sdist is None:
            say(f"detectron2 1/3: downloading {SDIST_NAME} {VERSION}")
            sdist = download_sdist(Path(scratch))
        say("detectron2 2/3: making a wheel of it")
        wheel = make_wheel(sdist, Path(scratch))
        say("detectron2 3/3: installing it and what it requires")
        install_wheel(wheel, constraint)
    return f"detectron2: installed {VERSION} as a pure-Python wheel"


def write_only(sdist: Path | None, directory: Path) -> str:
    """Write the wheel into `directory`, whatever is installed; returns the line to print."""
    with tempfile.TemporaryDirectory() as scratch:
        return f"detectron2: wrote {make_wheel(sdist or download_sdist(Path(scratch)), directory)}"
