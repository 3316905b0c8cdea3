"""The smallest rate that reaches a PSNR: short runs bracket it, their trend predicts what a full run will give."""

from __future__ import annotations

import dataclasses
import functools
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
from training.checkpoint import load_checkpoint
from training.code_refinement import Refinement
from training.plan import HIGHEST_BPP, least_rate, plan
from training.run import train_on
from training.state import Session
from training.summary import Result

PROBE_SHARE = 0.15  # of a full run's iterations that a probe takes
LEARNING_POWER = 0.5  # the distance to an endless run's PSNR falls with iterations ** -LEARNING_POWER
# With their halves 0.7 of a full run; with two full ones at most 3.9 with LOCAL_PROBES between, 6.9 with LONG_PROBES.
MAX_PROBES, MOST_RUNS = 3, 7
DB_PER_OCTAVE = 2.8  # dB per doubling of the rate, until two probes measure it; eight materials: 1.9 to 3.5
CLOSE_OCTAVES = 0.35  # a probe whose rate is this near to the predicted one is the last
LATER_ROUNDS = 0.25  # gain of all later rounds of --refine over that of the first; measured: 0.10 dB after 0.43, 0.27
#                      after 0.86
# Of the gain that a full run is predicted to bring, what it may bring more where 20 bpp seem too little. data/test,
# `fast`: 33.3 dB in a short run at 20 bpp, 39.0 predicted, 40.0 in a full run.
DOUBTED_GAIN = 0.75
AIM_ABOVE = 0.12  # dB above the target for the first run; predictions are off by about as much
SECOND_AIM = 0.08  # dB above target for the second and last run; no further run can correct a miss
# A run that ends below the target by up to MENDED_DB gets up to MORE_ROUNDS rounds of search in place of another run.
# data/test at 19.4 bpp, `balanced`: 43.97 dB after its two rounds, 44.32 after three more.
MENDED_DB, MORE_ROUNDS = 0.12, 4
STEEPEST = 4.0  # dB per octave between full runs; probes overestimate it, as they are less trained at high rates
WINDOW = 0.3  # dB above the target within which a result counts as reached
LOCAL_PROBES, LOCAL_SHARE = 5, 0.2  # short runs near the second full run's rate, and the share of a full run they take
# Difference of two full runs over that of two short ones. data/test, `fast`, dB of runs of 0.1 / 0.2 / 1: from 1.13 to
# 1.35 bpp 0.52 / 0.47 / 0.52, 2.09 to 2.59 0.74 / 0.81 / 1.09, 13.9 to 12.8 -0.23 / -0.31 / -0.33, 6.5 to 7.34, with
# grids of 832 and 896 texels, about 0.7 / -0.05 / 0.05; of 0.2 / 1: Rock058, 6.66 to 7.64 0.46 / 0.73, Metal055A,
# 1.89 to 1.6 -0.31 / -0.33, and far apart, data/test, 20 to 16.1 -1.46 / -2.79.
LOCAL_GROWTH = 1.25
LOCAL_DB = 0.07  # a rate whose short run promises to end this near to SECOND_AIM is taken
LEAST_STEP = 0.004  # of the rate, by which rates that are tried differ
# Where the first run misses by more than FAR_DB, longer runs tell more: a short one tells half of a large difference
# where runs learn slowly. data/test, `fast`, dB over those at 20 bpp of runs of 0.2 / 0.5 / 1: at 18 bpp -0.46 / -1.54
# / -2.08, at 16.1 -1.60 / -2.48 / -2.82; by `expected_of_full` -2.13 and -2.96.
FAR_DB, LONG_PROBES, LONG_SHARE = 0.6, 5, 0.5
# So they do where a full run gains more than LATE_DB over a short one, which then says little of small differences too:
# Rock058 at 17.05 bpp, `fast`, where 0.8 bpp more promise 0.57 dB more in runs of 0.2 and bring 0.13.
LATE_DB = 2.5
MOST_REST = 1.5  # of what the later part of a short run gained, that the rest of a full run is expected to gain


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a full run at `bpp` is predicted to reach, from short runs."""

    bpp: float
    psnr: float  # of all channels at LOD 0, dB


def gain_of_a_full_run(half: float, short: float) -> float:
    """The dB that a full run gains over a short one, predicted from the PSNR of a run of half that length and the short
    run's.

    The distance to the PSNR of an endless run falls about with iterations ** -0.5 (Rock058 at 2.5 bpp: 900, 2500, 8000
    iterations give 32.7, 33.6, 34.2 dB), so the gain of the second half of a short run predicts the rest.
    """
    left = [share**-LEARNING_POWER for share in (PROBE_SHARE / 2, PROBE_SHARE, 1)]
    return max(short - half, 0) * (left[1] - left[2]) / (left[0] - left[1])


def rate_for(target: float, probes: list[Probe]) -> tuple[float, float]:
    """Where a line through the probes around `target`, or else the two nearest to it, reaches it: (bpp, dB per octave).
    bpp is not limited to the rates that exist."""
    nearest = sorted(probes, key=lambda probe: abs(probe.psnr - target))[:2]
    slope = DB_PER_OCTAVE
    around = bracket(probes, target)
    if around is not None:
        nearest = sorted(around, key=lambda probe: abs(probe.psnr - target))
    if len(nearest) == 2 and nearest[0].bpp != nearest[1].bpp:
        octaves = math.log2(nearest[0].bpp / nearest[1].bpp)
        slope = min(max((nearest[0].psnr - nearest[1].psnr) / octaves, 0.5), 8.0)  # noise must not reverse it
    return nearest[0].bpp * 2 ** ((target - nearest[0].psnr) / slope), slope


def find_rate(session: Session, target: float, config: Config) -> tuple[float, float, float]:
    """Predict from short runs the rate at which a full run ends AIM_ABOVE `target`, in dB.

    Returns: (bpp up to 20, dB per octave of the rate there, lowest rate that this material can have).
    Raises: UserError when the prediction for 20 bpp is below the target by more than its own error.
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
            full = seconds / PROBE_SHARE
            say(f"looking for {target:.2f} dB: short runs first, then a full one; about {full + 3 * seconds:.0f} s in "
                f"all, up to {MOST_RUNS * full:.0f} s where that one misses and a second follows")  # fmt: skip
        probes.append(Probe(bpp, short + gain))
        say(f"  {bpp:.2f} bpp: {short:.2f} dB in a short run, about {probes[-1].psnr:.2f} in a full one")
        wanted, slope = rate_for(target + AIM_ABOVE, probes)
        bpp = min(max(wanted, lowest), HIGHEST_BPP)
        if any(abs(math.log2(bpp / probe.bpp)) < CLOSE_OCTAVES for probe in probes):
            break
    highest = max(probes, key=lambda probe: probe.bpp)
    reach = highest.psnr + slope * math.log2(HIGHEST_BPP / highest.bpp)
    if reach < target - max(WINDOW, DOUBTED_GAIN * gain):
        asked = f"--match {config.match}: {target:.2f} dB" if config.match else f"--target_psnr {target:.2f}"
        raise UserError(
            f"{asked}: {HIGHEST_BPP:g} bpp, the most there is, reaches about {reach:.1f} dB on {material.name}; "
            "ask for less, or take a larger --preset"
        )
    return bpp, slope, lowest


def run_probe(
    session: Session, bpp: float, share: float, config: Config, row_bpp: float = 0.0
) -> tuple[float, float]:
    """PSNR of LOD 0 after `share` of a full run's iterations, before and after the first round of --refine; equal where
    there is none. Nothing is written. row_bpp: as of plan."""
    material = session.material
    aimed = dataclasses.replace(config, bpp=bpp, target_psnr=0.0, match="")
    full = plan(aimed, material.width, material.height, row_bpp)
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
    """The rate of a second full run after one at `bpp` reached `psnr`; None where that is within WINDOW of the target,
    or no other rate is left."""
    missed = psnr - target
    if 0 <= missed <= WINDOW:
        return None
    again = min(max(bpp * 2 ** ((SECOND_AIM - missed) / min(slope, STEEPEST)), lowest), HIGHEST_BPP)
    return None if abs(again / bpp - 1) < 0.005 else again


def second_rate(
    session: Session, target: float, first: Probe, slope: float, lowest: float, config: Config, row_bpp: float
) -> float | None:
    """The rate of a second full run after the `first`; None as of `correction`.

    PSNR over rate has steps and bends where grids change their size or their kind, which no slope knows. So short runs
    at the rate of the first run and at that of the correction say what lies between them: the difference of two short
    runs tells that of two full ones, see LOCAL_GROWTH. Where it misses, the line through what is known around the aim
    is followed. After a far miss, and where runs learn late, longer runs beside them tell more, see FAR_DB.
    """
    wanted, aim = correction(target, first.bpp, first.psnr, slope, lowest), target + SECOND_AIM
    if wanted is None:
        return None

    @functools.cache
    def short_run(bpp: float, share: float = LOCAL_SHARE) -> float:
        return run_probe(session, bpp, share, config, row_bpp)[1]

    def by_difference(bpp: float) -> float:
        return first.psnr + LOCAL_GROWTH * (short_run(bpp) - short_run(first.bpp))

    def by_curve(bpp: float) -> float:
        start = short_run(first.bpp), short_run(first.bpp, LONG_SHARE)
        return expected_of_full((short_run(bpp), short_run(bpp, LONG_SHARE)), start, first.psnr)

    hard = abs(first.psnr - target) > FAR_DB or first.psnr - short_run(first.bpp) > LATE_DB
    expected, tried = by_curve if hard else by_difference, [first]
    for step in range(LONG_PROBES if hard else LOCAL_PROBES):
        bpp = round(wanted, 3)
        if any(abs(bpp / other.bpp - 1) < LEAST_STEP for other in tried[1:]):
            break
        tried.append(Probe(bpp, expected(bpp)))
        session.say(f"  {bpp:.2f} bpp: about {tried[-1].psnr:.2f} dB, from shorter runs there and at {first.bpp:.2f}")
        if abs(tried[-1].psnr - aim) <= LOCAL_DB:
            break
        around, wanted = bracket(tried, aim), between(tried, aim, slope)
        if step % 2 and around is not None:  # lines come near to a step slowly, from one side: halve in turns
            wanted = math.sqrt(around[0].bpp * around[1].bpp)
        wanted = min(max(wanted, lowest), HIGHEST_BPP)
    # what lies between two of them may be on the other side of a step
    return min(tried[1:], key=lambda probe: miss_cost(probe.psnr - aim)).bpp


def miss_cost(missed: float) -> float:
    """How bad it is to end `missed` dB above the aim: below it, where the target is nearer, twice as bad."""
    return max(missed, -2 * missed)


def expected_of_full(runs: tuple[float, float], known: tuple[float, float], full: float) -> float:
    """The PSNR of a full run, from runs of LOCAL_SHARE and LONG_SHARE of it.

    What is left to gain is to the second run's gain over the first as it is at another rate, of which the same two runs
    and the full one are known.
    """
    rest = (full - known[1]) / max(known[1] - known[0], 1e-3)
    return runs[1] + min(max(rest, 0), MOST_REST) * max(runs[1] - runs[0], 0)


def bracket(known: Sequence[Probe], aim: float) -> tuple[Probe, Probe] | None:
    """The probes of the nearest rates below and above `aim`, where the one below has the lower rate; else None."""
    below = max((probe for probe in known if probe.psnr < aim), key=lambda probe: probe.bpp, default=None)
    above = min((probe for probe in known if probe.psnr >= aim), key=lambda probe: probe.bpp, default=None)
    return None if below is None or above is None or below.bpp >= above.bpp else (below, above)


def between(known: Sequence[Probe], aim: float, slope: float) -> float:
    """The rate of `aim` on the line, in dB over octaves, through the nearest rates below and above it; beyond all that
    is known, at `slope` from the nearest."""
    around = bracket(known, aim)
    if around is None:
        nearest = min(known, key=lambda probe: abs(probe.psnr - aim))
        return nearest.bpp * 2 ** ((aim - nearest.psnr) / min(slope, STEEPEST))
    below, above = around
    share = (aim - below.psnr) / (above.psnr - below.psnr)
    return below.bpp * (above.bpp / below.bpp) ** share


def train_to_target(session: Session, config: Config) -> Result:
    """Find the smallest rate that reaches --target_psnr, or the PSNR of the --match codec, and train there.

    One full run, and a second where the first one misses WINDOW above the target; both stay on disk.
    """
    material, say, target = session.material, session.say, config.target_psnr
    if config.match:
        from transcode.codecs import encode_decode

        rival = encode_decode(material, config.match)
        target = rival.psnr["all"]
        say(f"{config.match}: {target:.2f} dB at {rival.bpp:.2f} bpp on {one_line(material.name)}")
    bpp, slope, lowest = find_rate(session, target, config)
    row_bpp = bpp  # both runs take the same row of the table, so that only grid sizes differ and the slope holds
    aimed = dataclasses.replace(config, target_psnr=0.0, match="")
    results: list[Result] = []
    while True:
        aimed = dataclasses.replace(aimed, bpp=round(bpp, 3))
        run = train_on(session, plan(aimed, material.width, material.height, row_bpp))
        results.append(mended(session, run, target))
        if not results[-1].completed or len(results) == 2 or (results[-1] is not run and _psnr(results[-1]) >= target):
            break
        psnr = _psnr(run)  # before more rounds, which the next one does not begin with
        again = second_rate(session, target, Probe(aimed.bpp, psnr), slope, lowest, aimed, row_bpp)
        if again is None:
            break
        say(f"{psnr:.2f} dB is {abs(psnr - target):.2f} dB {'above' if psnr > target else 'below'} the target of "
            f"{target:.2f}: once more, at {again:.2f} bpp")  # fmt: skip
        bpp = again
    if not results[-1].completed:
        return results[-1]
    best = best_result(results, target)
    psnr = _psnr(best)
    verdict = "reached" if psnr >= target else f"missed by {target - psnr:.2f} dB"
    end = ", the least that it can have" if psnr > target + WINDOW and aimed.bpp <= round(lowest, 3) else ""
    rate = f"{best.rates['bpp']:.2f} bpp{end}"
    say(f"target   {target:.2f} dB {verdict}: {psnr:.2f} dB at {rate}, {one_line(str(best.run))}")
    return best


def mended(session: Session, result: Result, target: float) -> Result:
    """More rounds of --refine for a run that ended a little below the target, until it is reached."""
    for _ in range(MORE_ROUNDS):
        missed = target - _psnr(result) if result.completed else 0.0
        checkpoint = load_checkpoint(result.run) if 0 < missed <= MENDED_DB else None
        if checkpoint is None or not checkpoint.config.refine or not checkpoint.training.get("refined"):
            break
        session.say(f"{missed:.2f} dB below the target of {target:.2f}: one more round of search")
        config = dataclasses.replace(checkpoint.config, refine=checkpoint.training["refined"] + 1)
        result = train_on(session, config, checkpoint)
    return result


def best_result(results: Sequence[Result], target: float) -> Result:
    """The result of the smallest rate that reaches the target, else the one of the highest PSNR."""
    reached = [result for result in results if _psnr(result) >= target]
    if reached:
        return min(reached, key=lambda result: result.rates["bpp"])
    return max(results, key=_psnr)


def _psnr(result: Result) -> float:
    """Of all channels at LOD 0, dB."""
    return result.metrics["psnr"]["all"]
