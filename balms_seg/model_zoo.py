"""The configuration files that come with the package."""

from __future__ import annotations

from pathlib import Path

# In a wheel the files lie in the package, in a checkout beside it.
_ROOTS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


def get_config_file(name: str) -> str:
    """Path of a configuration file that ships with the package.

    Args:
        name: relative to configs/, such as "lvis_v1/balanced_softmax_mask_rcnn_R_50_FPN_1x.yaml".

    Returns:
        Its path.

    Raises:
        FileNotFoundError: there is no such file; the message lists the nearest ones.
    """
    root = next(path for path in _ROOTS if path.is_dir())
    if (root / name).is_file():
        return str(root / name)
    known = sorted(str(path.relative_to(root)) for path in root.rglob("*.yaml"))
    folder = name.split("/")[0] + "/"
    near = [path for path in known if path.startswith(folder)] or known
    raise FileNotFoundError(
        f"There is no configuration {name!r} in {root}; there are {', '.join(near)}."
    )
