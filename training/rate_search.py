"""The smallest rate that reaches a PSNR: short runs bracket it, their trend predicts what a full run will give."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

from common.errors import UserError, one_line
from configs import Config
from engine.cpu.decoder import decode_lod
from engine.create import create_engine
from engine.schedule import Schedule
from metrics.evaluate import metric_options, score_lod
from model import new_model
from training.code_refinement import Refinement
from training.plan import HIGHEST_BPP, least_rate, lower_rate_alike, plan
from training.run import train_on
from training.state import Session
from training.summary import Result

PROBE_SHARE = 0.15  # of a full run's iterations
LEARNING_POWER = 0.5  # of iterations, by which a run's distance to an endless one's PSNR shrinks
MAX_PROBES = 3  # with their halves 0.7 of a full run, so that two full ones can follow within the time of three
DB_PER_OCTAVE = 2.8  # of the rate, before two probes say it; eight materials of the trial: 1.9 to 3.5
CLOSE_OCTAVES = 0.35  # probes this near to the answer need no further one
LATER_ROUNDS = 0.25  # of what the first round of refining brings, for all others; 0.10 of 0.43 dB, 0.27 of 0.86
AIM_ABOVE = 0.12  # dB above the target: a prediction is off by about as much
SECOND_AIM = 0.18  # of the last run, which has none after it that would mend a miss
STEEPEST = 4.0  # dB per octave between full runs; short ones, further from their end the higher the rate, suggest more
WINDOW = 0.3  # dB above the target within which a result counts as found




@dataclasses.dataclass(frozen=True)
class Probe:
    """A run at `bpp`: LOD 0's PSNR of all channels."""

    bpp: float
    psnr: float


def gain_of_a_full_run(half: float, short: float) -> float:
    """What a full run will have over a short one, in dB, from a run of half the short one's length and the short one.

    The distance to the PSNR of an endless run falls about with iterations ** -0.5 (Rock058 at 2.5 bpp: 900, 2500, 8000
    iterations give 32.7, 33.6, 34.2 dB), so a difference at the start tells the one at the end.
    """
    left = [share**-LEARNING_POWER for share in (PROBE_SHARE / 2, PROBE_SHARE, 1)]
    return max(short - half, 0) * (left[1] - left[2]) / (left[0] - left[1])


def rate_for(target: float, probes: list[Probe]) -> tuple[float, float]:
    """(bpp, dB per octave) at which a line through the two probes nearest to `target` reaches it; bpp unlimited."""
    nearest = sorted(probes, key=lambda probe: abs(probe.psnr - target))[:2]
    slope = DB_PER_OCTAVE
    if len(nearest) == 2 and nearest[0].bpp != nearest[1].bpp:
        octaves = math.log2(nearest[0].bpp / nearest[1].bpp)
        slope = min(max((nearest[0].psnr - nearest[1].psnr) / octaves, 0.5), 8.0)  # noise must not turn it round
    return nearest[0].bpp * 2 ** ((target - nearest[0].psnr) / slope), slope


def find_rate(session: Session, target: float, config: Config) -> tuple[float, float, float]:
    """Where a full run should reach `target`, a little above it.

    Returns: (bpp up to 20, dB per octave of the rate there, lowest rate that this material can have).
    Raises: UserError when 20 bpp are predicted to stay far below: by more than the prediction can be wrong.
    """
    material, say = session.material, session.say
    probes: list[Probe] = []
    lowest = least_rate(config, material.width, material.height)
    bpp = min(max(2.5 * 2 ** ((target - 36) / DB_PER_OCTAVE), 1.0, lowest), max(10.0, lowest))
    for _ in range(MAX_PROBES):
        started = time.perf_counter()
        plain, short = run_probe(session, bpp, PROBE_SHARE, config)
        seconds = time.perf_counter() - started
        _, half = run_probe(session, bpp, PROBE_SHARE / 2, config)
        gain = gain_of_a_full_run(half, short) + LATER_ROUNDS * (short - plain)
        if not probes:
            expected = seconds * (1 / PROBE_SHARE + 3)
            say(f"looking for {target:.2f} dB: short runs first, then a full one; about {expected:.0f} s in all")
        probes.append(Probe(bpp, short + gain))
        say(f"  {bpp:.2f} bpp: {short:.2f} dB in a short run, about {probes[-1].psnr:.2f} in a full one")
        wanted, slope = rate_for(target + AIM_ABOVE, probes)
        bpp = min(max(wanted, lowest), HIGHEST_BPP)
        if any(abs(math.log2(bpp / probe.bpp)) < CLOSE_OCTAVES for probe in probes):
            break
    highest = max(probes, key=lambda probe: probe.bpp)
    reach = highest.psnr + slope * math.log2(HIGHEST_BPP / highest.bpp)
    if reach < target - max(WINDOW, 1.5 * gain):
        asked = f"--match {config.match}: {target:.2f} dB" if config.match else f"--target_psnr {target:.2f}"
        raise UserError(
            f"{asked}: {HIGHEST_BPP:g} bpp, the most there is, reaches about {reach:.1f} dB on {material.name}; "
            "ask for less, or take a larger --preset"
        )
    return bpp, slope, lowest


def run_probe(session: Session, bpp: float, share: float, config: Config) -> tuple[float, float]:
    """PSNR of LOD 0 after a run of `share` of the full one's iterations that leaves nothing on disk: before and after
    its first round of refining, if there is one."""
    material = session.material
    aimed = dataclasses.replace(config, bpp=bpp, target_psnr=0.0, match="")
    full = plan(aimed, material.width, material.height)
    short = dataclasses.replace(full, max_iter=max(round(full.max_iter * share), 1))
    model = new_model(short, material).to(session.device)
    engine = create_engine(model, material, Schedule(short), session.device)
    while engine.iteration < short.max_iter:
        engine.step(min(engine.chunk, short.max_iter - engine.iteration))
    engine.sync()
    refinement = Refinement(model, material, short)
    trained = score_lod(model, material, 0, decode=decode_lod, **metric_options("psnr"))["psnr"]["all"]
    if short.refine == 0 or not refinement.possible:
        return trained, trained
    refinement.round(0)
    return trained, score_lod(model, material, 0, decode=decode_lod, **metric_options("psnr"))["psnr"]["all"]


def correction(target: float, bpp: float, psnr: float, slope: float, lowest: float) -> float | None:
    """The rate of a second full run after one at `bpp` ended at `psnr`; None where that was within the window, or where
    the rates end."""
    missed = psnr - target
    if 0 <= missed <= WINDOW:
        return None
    again = min(max(bpp * 2 ** ((SECOND_AIM - missed) / min(slope, STEEPEST)), lowest), HIGHEST_BPP)
    return None if abs(again / bpp - 1) < 0.005 else again


def train_to_target(session: Session, config: Config) -> Result:
    """Find the smallest rate that reaches --target_psnr, or the PSNR of the codec to --match, and train there.

    One full run, and a second where the first one ends outside of the window above the target; both stay on disk.
    """
    material, say, target = session.material, session.say, config.target_psnr
    if config.match:
        from transcode.codecs import encode_decode

        rival = encode_decode(material, config.match)
        target = rival.psnr["all"]
        say(f"{config.match}: {target:.2f} dB at {rival.bpp:.2f} bpp on {one_line(material.name)}")
    bpp, slope, lowest = find_rate(session, target, config)
    row_bpp = bpp  # a second run differs from the first in the grids' sizes alone, so that the slope holds
    aimed = dataclasses.replace(config, target_psnr=0.0, match="")
    results: list[Result] = []
    while True:
        aimed = dataclasses.replace(aimed, bpp=round(bpp, 3))
        results.append(train_on(session, plan(aimed, material.width, material.height, row_bpp)))
        psnr = results[-1].metrics["psnr"]["all"] if results[-1].completed else None
        again = None if psnr is None else correction(target, aimed.bpp, psnr, slope, lowest)
        if again is None or len(results) == 2:
            break
        if again < aimed.bpp:
            again = lower_rate_alike(again, aimed.bpp, aimed, material.width, material.height)
        say(f"{psnr:.2f} dB is {abs(psnr - target):.2f} dB {'above' if psnr > target else 'below'} the target of "
            f"{target:.2f}: once more, at {again:.2f} bpp")  # fmt: skip
        bpp = again
    if not results[-1].completed:
        return results[-1]
    best = best_result(results, target)
    psnr = best.metrics["psnr"]["all"]
    verdict = "reached" if psnr >= target else f"missed by {target - psnr:.2f} dB"
    say(f"target   {target:.2f} dB {verdict}: {psnr:.2f} dB at {best.rates['bpp']:.2f} bpp, {one_line(str(best.run))}")
    return best


def best_result(results: Sequence[Result], target: float) -> Result:
    """The one of the smallest rate that reaches the target, else the one that comes nearest."""
    reached = [result for result in results if result.metrics["psnr"]["all"] >= target]
    if reached:
        return min(reached, key=lambda result: result.rates["bpp"])
    return max(results, key=lambda result: result.metrics["psnr"]["all"])
