"""Start a run or continue one: from the beginning, from a checkpoint, or at the rate that reaches a target PSNR."""

from __future__ import annotations

import dataclasses

from common.errors import Say
from configs import Config
from engine.create import resolve_device
from training.checkpoint import load_checkpoint
from training.plan import plan
from training.rate_search import train_to_target
from training.resume import check_same_material, resumed_config
from training.run import read_material, train_on
from training.state import Session
from training.summary import Result


def train_material(config: Config, say: Say = print, quiet: bool = False) -> Result:
    """Train the material in config.data_dir from the start, or continue the run config.load_dir.

    Args:
        config: a resumed run takes from it what the user has chosen, and keeps its own values elsewhere.
        say: receives the lines meant for the user.
        quiet: no progress bar.
    Raises: UserError.
    """
    checkpoint = None
    if config.load_dir:
        checkpoint = load_checkpoint(config.load_dir, config.load_iter)
        config = resumed_config(checkpoint, config)
    device = resolve_device(config)
    material = read_material(config.data_dir, config, say)
    if checkpoint is not None:
        check_same_material(checkpoint, material, say)
        material = dataclasses.replace(material, constants=checkpoint.model.constants)  # the run goes on as it began
    session = Session(material, device, say, quiet)
    if checkpoint is not None:
        return train_on(session, config, checkpoint)
    if config.target_psnr or config.match:
        return train_to_target(session, config)
    return train_on(session, plan(config, material.width, material.height))
