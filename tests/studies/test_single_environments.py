import csv

import numpy as np
import pytest

from torchlpr.studies import run_study


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    return folder, run_study("single_environments", folder, quick=True)


@pytest.mark.xdist_group("single environments")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert len(run[1].claims) == 4
    assert (run[0] / "single_environments.png").stat().st_size > 1000


@pytest.mark.xdist_group("single environments")
def test_the_tables_show_the_plus_one(run) -> None:
    with (run[0] / "plus_one.csv").open() as file:
        table = np.array(list(csv.reader(file))[1:], dtype=float)
    assert table.shape == (11, 2)
    np.testing.assert_allclose(table[:, 1] - table[:, 0], 1, rtol=0, atol=1e-9)
    assert table[:, 0].min() < 0.1  # some of them are barely determined by graphite
    with (run[0] / "spread.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 4 * 11
