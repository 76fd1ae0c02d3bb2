"""``torchlpr fit``."""

from __future__ import annotations

import json

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from torchlpr.pipeline.config import FitConfig
from torchlpr.ranks import current_ranks

__all__ = ["Fit"]


class Fit:
    """Train a model on energies, and on forces if they weigh; keep all that its rigidity needs.

    Several processes share features, Adam's steps and the rigidity (other optimisers are the work
    of the first): torchrun --nproc-per-node 4 -m torchlpr fit ...

    Example:
        torchlpr fit --data.train train.xyz --model.kind kernel --out run

        chooses the regulariser on a tenth of train.xyz, prints errors and whether the weights are
        at a minimum, and writes run/, which the other commands take; --print_config shows all
        settings.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings")
        parser.add_class_arguments(FitConfig, None, fail_untyped=False)
        parser.add_argument("--out", default="run", help="folder of the run")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Train and print the errors and the verdict."""
        from torchlpr.pipeline.fit import fit_run

        parts = {
            name: settings[name]
            for name in ("data", "descriptor", "model", "objective", "training")
        }
        ranks = current_ranks()
        with ranks.agreed():
            config = FitConfig(**parts)
        run = fit_run(config, settings.out, ranks=ranks)
        if not ranks.first:
            return
        if settings.json:
            print(json.dumps(run.metrics | {"stationarity": run.stationarity.as_dict()}))
            return
        for name in ("train", "validation", "test"):
            if f"rmse_{name}" in run.metrics:
                percent = run.metrics.get(f"percent_rmse_{name}")
                share = "" if percent is None else f" ({percent:.1f} % of the spread)"
                print(f"RMSE {name}: {run.metrics[f'rmse_{name}']:.3e} eV/atom{share}")
            if f"force_rmse_{name}" in run.metrics:
                print(f"force RMSE {name}: {run.metrics[f'force_rmse_{name}']:.3e} eV/Å")
        print(f"mu {run.metrics['mu']:.3e}, {run.metrics['rigidity_algorithm']}")
        if run.metrics.get("mu_at_edge_of_grid"):
            print("this mu is at an end of the grid that was tried; widen it by objective.grid")
        unsettled = run.metrics.get("mu_unsettled")
        if unsettled and run.metrics["mu_rule"] in {"leave-one-out", "evidence"}:
            print(
                f"at mu {', '.join(f'{mu:.3g}' for mu in unsettled)} training stopped before its "
                "minimum, so that its leave-one-out error and evidence mean little; raise "
                "training.steps"
            )
        print(run.stationarity.sentence())
        print(f"{settings.out} is ready for: torchlpr rigidity {settings.out} STRUCTURES")
