"""What several tests of the report start from."""

from __future__ import annotations

import numpy as np
import pytest

from balms_seg.class_statistics import ClassStatistics


@pytest.fixture
def statistics() -> ClassStatistics:
    counts = [300, 40, 12, 5, 1, 0]
    labels = np.repeat(np.arange(6), counts)
    dicts = [{"annotations": [{"category_id": int(k)}]} for k in labels]
    names = ["ant", "bee", "cat", "dog", "eel", "fox"]
    return ClassStatistics.from_dataset_dicts(dicts, 6, class_names=names)
