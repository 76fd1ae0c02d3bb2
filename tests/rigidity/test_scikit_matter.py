"""C1: the linear head agrees with scikit-matter's published function."""

import numpy as np
import pytest

from tests.cases import make_batch
from tests.oracles import scikit_matter
from torchlpr import LinearModel, Objective, Rigidity


@pytest.mark.parametrize("structures", [3, 40])
@pytest.mark.parametrize("mu", [1e-2, 1.0, 10.0])  # below, its pseudo-inverse loses digits
def test_c1(structures: int, mu: float) -> None:
    pytest.importorskip("skmatter", reason="scikit-matter is not installed")
    train, test = make_batch(structures, seed=1, features=7), make_batch(5, seed=2, features=7)

    def split(batch) -> list[np.ndarray]:
        return [
            batch.features[batch.structure == a].numpy()
            for a in range(int(batch.structure[-1]) + 1)
        ]

    lpr = Rigidity(LinearModel(7, [14]), train, Objective(mu=mu)).local(test)
    expected = scikit_matter.local_prediction_rigidity(split(train), split(test), mu)
    np.testing.assert_allclose(lpr, expected, rtol=1e-12)
