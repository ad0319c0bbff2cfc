"""Same person or not: the similarity that a run's evaluations found to tell."""

from __future__ import annotations

from pipeline.artifacts.atomic import read_json
from pipeline.artifacts.runs import Run
from pipeline.artifacts.steps import Step
from pipeline.artifacts.store import Workspace
from reid_train.search.about import Threshold


def newest_threshold(workspace: Workspace, model: Step, flip: bool) -> Threshold | None:
    """That of the newest evaluation of ``model`` with the same kind of features and the model's own
    distance; None without.
    """
    known: list[tuple[str, float, Threshold]] = []
    for artifact in workspace.find("evaluation"):
        if not artifact.complete:
            continue
        provenance = artifact.provenance()
        evaluated = Step.from_plain(provenance["inputs"]["model"])
        params = provenance["params"]
        if evaluated.key == model.key and params["flip"] == flip and "distance" not in params:
            found = read_json(artifact.folder / "threshold.json")
            # Older evaluations calibrated on rows of a table, which images of no set do not have.
            sound = "side_information" in found or not with_table(model)
            if found["threshold"] is not None and sound:
                rate = found.get("threshold_fpr")
                points = {point["wanted_fpr"]: point for point in found.get("points", [])}
                point = points.get(rate, {})
                threshold = Threshold(
                    similarity=found["threshold"],
                    wanted_fpr=rate,
                    fpr=point.get("fpr"),
                    tpr=point.get("tpr"),
                )
                known.append((provenance["started"], threshold.similarity, threshold))
    return max(known, key=lambda entry: entry[:2])[2] if known else None


def with_table(model: Step) -> bool:
    """Whether a model has a table of cameras or views."""
    options = model.params["recipe"]["model"]["options"]
    return bool(options.get("cameras") or options.get("views"))


def threshold_line(run: Run, threshold: Threshold | None) -> str:
    """What a person is told about the threshold beside similarities."""
    if threshold is None:
        return f"no threshold yet; reidpipe eval {run.name} calibrates one"
    return f"threshold {threshold.similarity:.3f}: 1 % of pairs of different people pass it"
