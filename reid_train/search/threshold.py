"""Same person or not: the similarity that a run's evaluations found to tell."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.artifacts.checked import read_json
from pipeline.artifacts.mark import MARK
from pipeline.artifacts.runs import Run
from pipeline.artifacts.shapes import wrong
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from pipeline.terminal.errors import DamagedFile, ReidpipeError
from reid_train.evaluation.calibration import Calibration, Threshold
from reid_train.evaluation.threshold import RATE
from reid_train.search.encoder import Making, evaluated_by

# What is read of the model that an evaluation's mark tells of.
_INPUTS = {"model": {"params": {"recipe": {"model": {"options": dict}}}}}


# Parameters of an evaluation that compared other features, or otherwise than the model says.
_OTHERWISE = {"distance", "feature"}


@dataclass(frozen=True)
class Calibrated:
    """What an evaluation found: the threshold of its usual rate, and the counts that give that of
    any other (None of older evaluations).
    """

    threshold: Threshold | None = None
    calibration: Calibration | None = None


def newest_calibration(workspace: Workspace, how: Making) -> Calibrated:
    """That of the newest evaluation whose features were made and compared so; else an empty one."""
    known: list[tuple[str, str, Calibrated]] = []
    for artifact in workspace.find("evaluation"):
        provenance = artifact.mark()
        if provenance is None:
            continue
        if why := wrong(provenance["inputs"], _INPUTS):
            raise DamagedFile(
                f"found {artifact.folder / MARK} with {why} in its inputs; expected what reidpipe "
                "eval writes; type reidpipe cache verify --repair"
            )
        model = Step.from_plain(provenance["inputs"]["model"])
        params = provenance["params"]
        if model.key != how.model or params.get("flip") != how.flip or _OTHERWISE & set(params):
            continue
        path = artifact.folder / "threshold.json"
        found = read_json(path)
        # Older evaluations calibrated on rows of a table, which images of no set do not have.
        if _with_table(model) and "side_information" not in found:
            continue
        calibrated = _read(found, path)
        if calibrated.threshold is not None:
            known.append((provenance["started"], artifact.key, calibrated))
    return max(known, key=lambda entry: entry[:2])[2] if known else Calibrated()


def _with_table(model: Step) -> bool:
    """Whether a model has a table of cameras or views."""
    options = model.params["recipe"]["model"]["options"]
    return bool(options.get("cameras") or options.get("views"))


def _read(found: dict[str, Any], path: Path) -> Calibrated:
    rate = found.get("threshold_fpr") or RATE
    try:
        if found.get("calibration") is not None:
            calibration = Calibration.model_validate(found["calibration"])
            return Calibrated(calibration.threshold(rate), calibration)
        if found["threshold"] is None:
            return Calibrated()
        points = {point["wanted_fpr"]: point for point in found.get("points", [])}
        point = points.get(rate, {})
        threshold = Threshold(
            similarity=found["threshold"],
            wanted_fpr=rate,
            fpr=point.get("fpr"),
            tpr=point.get("tpr"),
            pairs=found.get("pairs"),
        )
        return Calibrated(threshold)
    except (ValidationError, KeyError, TypeError) as error:
        raise DamagedFile(
            f"found {path} damaged; expected what reidpipe eval writes; type reidpipe cache verify "
            "--repair"
        ) from error


def threshold_of(
    run: Run, how: Making, calibrated: Calibrated, *, fpr: float | None, similarity: float | None
) -> Threshold | None:
    """The threshold a person asked for, of features made so: of an error rate (0..1), a similarity
    of their own, or else that of the calibration. Raises ReidpipeError for a rate where nothing is
    calibrated, and for what is no rate or no finite similarity.
    """
    if fpr is not None and similarity is not None:
        raise ReidpipeError(
            "found both --fpr and --min-similarity; expected one of them; leave the other out"
        )
    if similarity is not None:
        if not isfinite(similarity):
            raise ReidpipeError(
                f"found --min-similarity {similarity:g}; expected a finite number, as the matches "
                "have; type --min-similarity 0.5, or leave it out"
            )
        return Threshold(similarity=similarity)
    if fpr is None:
        return calibrated.threshold
    if not 0 < fpr < 1:
        raise ReidpipeError(
            f"found --fpr {fpr:g}; expected a share of pairs of different people between 0 and 1; "
            "type --fpr 0.01"
        )
    if calibrated.calibration is None:
        what = "no calibrated threshold" if calibrated.threshold is None else "an older calibration"
        raise ReidpipeError(
            f"found {what} for the features of '{run.name}' and --fpr {fpr:g}; expected an "
            f"evaluation; type {evaluated_by(run, how)}, or --min-similarity in place of --fpr"
        )
    return calibrated.calibration.threshold(fpr)


def threshold_lines(run: Run, how: Making, threshold: Threshold | None) -> list[str]:
    """What a person is told about the threshold beside similarities of features made so: its rates,
    from how many pairs, how sure they are, and a warning where the pairs are too few to see the
    wanted rate.
    """
    if threshold is None:
        return [f"no threshold yet; {evaluated_by(run, how)} calibrates one"]
    head = f"threshold {threshold.similarity:.3f}"
    if threshold.wanted_fpr is None and threshold.fpr is None:
        return [f"{head}: as given, its error rates are not known"]
    if threshold.interval is not None:
        low, high = threshold.interval
        head += f" (95 % {low:.3f} to {high:.3f}, over {threshold.people} people)"
    pairs: dict[str, int] = {k: n for k, n in (threshold.pairs or {}).items()}
    wanted = "" if threshold.wanted_fpr is None else f" (wanted: {percent(threshold.wanted_fpr)})"
    passed = threshold.fpr if threshold.fpr is not None else threshold.wanted_fpr or 0.0
    line = (
        f"{head}: {percent(passed)}{_sure(threshold.fpr_interval)} of "
        f"{_count(pairs, 'different')}pairs of different people pass it{wanted}"
    )
    if threshold.tpr is not None:
        line += (
            f", {percent(threshold.tpr)}{_sure(threshold.tpr_interval)} of "
            f"{_count(pairs, 'same')}pairs of one person"
        )
    if threshold.dataset is not None:
        line += f"; {threshold.dataset} {threshold.protocol}, excluded {threshold.exclude}"
        if threshold.distance is not None:
            flip = "with" if threshold.flip else "no"
            line += f", {flip} flip, {threshold.distance} distance"
    lines = [line]
    if threshold.few is not None:
        lines.append(
            f"warning: {pairs['different']} pairs of different people are too few to tell "
            f"{percent(threshold.wanted_fpr or 0)} from none; it takes {threshold.few}: evaluate "
            "on more people"
        )
    return lines


def percent(share: float) -> str:
    """A share as percent, with two digits that count: ``1 %``, ``0.93 %``, ``0.012 %``."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.4g} %"


def _sure(interval: list[float] | None) -> str:
    return "" if interval is None else f" (95 % {_bare(interval[0])} to {percent(interval[1])})"


def _bare(share: float) -> str:
    return percent(share).removesuffix(" %")


def _count(pairs: dict[str, int], kind: str) -> str:
    return f"{pairs[kind]:,} " if kind in pairs else ""
