"""The table of names and metadata of a segment."""

from __future__ import annotations

import pytest

from ccr_adapters.search.rows import Rows


def test_a_file_that_a_writer_took_away_is_missing(tmp_path):
    """Who looks again then finds the segment that it was merged into."""
    with pytest.raises(FileNotFoundError) as error:
        Rows(tmp_path / "segment-000002.rows")
    assert error.value.filename == str(tmp_path / "segment-000002.rows")
