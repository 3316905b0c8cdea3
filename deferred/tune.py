"""Search learning rate and weight decay of train.py with Optuna, by the PSNR of held-out views.

    python tune.py --trials 6 --data D --epoch 20            (inside deferred/)
    python -m deferred.tune --trials 6 --data D --epoch 20   (in the repository's root)

Takes the flags of train.py except those that it searches (--lr, --l2). Trials that fall behind the median of earlier
ones are stopped. Writes tune.json and prints the flags of the best trial.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # imports begin at the repository's root, also where this is started as a file
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [str(Path(__file__).resolve().parents[1])]
import common.before_torch  # isort: skip  # noqa: F401  # before torch

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import Say, UserError, quote, run_command
from common.files import make_folder, write_json
from common.knobs import add_flags, check_values, knob
from common.stop import stop_signals
from deferred.meshes import ADVICE
from deferred.options import build_parser

RATES = (1e-4, 3e-2)  # learning rates, searched on a logarithmic scale
DECAYS = ("0.01, 0.001, 0.0001, 0", "0.001, 0.0001, 0.00001, 0", "0, 0, 0, 0")
RESULT = "tune.json"
SEARCHED = ("lr", "l2")
NOT_HERE = (*SEARCHED, "load", "load_step", "resume", "epoch_per_checkpoint")


@dataclasses.dataclass(frozen=True)
class TuneOptions:
    """Options of the search itself."""

    trials: int = knob(6, "training runs", low=1, high=10_000)
    study: str = knob("", "database of the trials, with which a search can be continued; empty: none", unit="path")


FIELDS = {field.name: field for field in dataclasses.fields(TuneOptions)}


def import_optuna() -> Any:
    """The optuna package. Raises: UserError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(f"tune.py: needs optuna, which is not installed; {ADVICE}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tune(own: TuneOptions, given: Mapping[str, Any], say: Say = print) -> dict[str, Any]:
    """Run the search. Returns: the content of tune.json. Raises: UserError."""
    optuna = import_optuna()
    from common.device import choose_device
    from common.event_file import EventFile
    from deferred.training import open_scene, options_for, trainer_on

    options = options_for("train", given, say)
    folder = Path(options.checkpoint)
    make_folder(folder)
    device, scene = choose_device(options.device), open_scene(options, say)
    if scene.held_out is None:
        raise UserError(
            "--val: expected held-out frames to compare trials by, found none; name some, or train on fewer"
        )

    def run(trial: Any) -> float:
        chosen = {"lr": trial.suggest_float("lr", *RATES, log=True), "l2": trial.suggest_categorical("l2", DECAYS)}
        told = say if trial.number == 0 else lambda _: None  # all trials choose the same
        trainer = trainer_on(scene, "train", dataclasses.replace(options, **chosen), None, device, told)

        def on_epoch(entry: Mapping[str, Any]) -> None:
            trial.report(entry["psnr"], entry["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            events = EventFile(Path(options.logdir) / f"tune-{trial.number}")
            try:
                if not trainer.train(Path(scratch), events, stop, on_epoch=on_epoch):
                    trial.study.stop()
                    raise optuna.TrialPruned
            finally:
                events.close()
        psnr = trainer.history[-1]["psnr"]
        say(f'trial {trial.number}: {psnr:.2f} dB with --lr {chosen["lr"]:.3g} --l2 "{chosen["l2"]}"')
        return psnr

    sampler = optuna.samplers.TPESampler(seed=options.seed)
    storage = f"sqlite:///{Path(own.study).absolute()}" if own.study else None
    study = optuna.create_study(direction="maximize", sampler=sampler, storage=storage, study_name="deferred",
                                load_if_exists=True)  # fmt: skip
    with stop_signals() as stop:
        study.optimize(run, n_trials=own.trials)
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not done:
        raise UserError("tune.py: stopped before a trial was over; there is nothing to choose from")
    result = {
        "best": {"psnr": study.best_value, **study.best_params},
        "trials": [{"number": t.number, "state": t.state.name, "psnr": t.value, **t.params} for t in study.trials],
    }
    write_json(folder / RESULT, result)
    best = result["best"]
    say(f"best of {len(done)}: {best['psnr']:.2f} dB with --lr {best['lr']:.3g} --l2 \"{best['l2']}\"; "
        f"{quote(folder / RESULT)}")  # fmt: skip
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see --help. Returns the exit code."""
    parser = build_parser("train", __doc__.splitlines()[0], without=NOT_HERE, prog="tune.py")
    add_flags(parser, FIELDS)
    given = vars(parser.parse_args(argv))
    own = TuneOptions(**check_values(FIELDS, {name: given.pop(name) for name in FIELDS if name in given}))
    tune(own, given)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, less_memory="use smaller frames"))
