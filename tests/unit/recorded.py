"""Where recordings lie that are not shipped, and the skip of tests that need them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("MOXIE_DATA", Path(__file__).parents[3] / "shared" / "data"))
LANL = DATA / "failures" / "lanl" / "LA-UR-05-7318-failure-data-1996-2005.csv.xz"
BACKBLAZE = DATA / "disks" / "backblaze_survival_by_model_2024Q2.csv"
FITS = DATA / "failures" / "fits"
OUTAGES = DATA / "failures" / "outages"

needs_recordings = pytest.mark.skipif(
    not LANL.exists(), reason="recorded failures are not shipped; set MOXIE_DATA to their folder"
)
