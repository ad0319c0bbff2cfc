"""The report worker finds the runs' names and shows them side by side."""

from __future__ import annotations

from pipeline.steps import Job
from reid_train.work_evaluate import evaluate
from reid_train.work_report import report


def test_two_evaluations_on_one_page(prepared):
    first, second = prepared.job("first"), prepared.job("second", exclude="none")
    inputs = {}
    for number, job in enumerate((first, second)):
        evaluate(job)
        inputs[f"evaluation{number}"] = job.folder
        inputs[f"model{number}"] = job.inputs["model"]
        inputs[f"index{number}"] = job.inputs["index"]
    folder = prepared.root / "report"
    folder.mkdir()
    params = {"title": "both", "evaluations": 2}
    summary = report(Job(folder, params, inputs, prepared.root))
    name = f"bignet-little-s3-{prepared.model.name[:6]}"
    assert summary == {"runs": [name, name]}
    page = (folder / "report.html").read_text()
    assert page.count(f"<td>{name}</td>") == 2
    assert "exclude same-camera" in page and "exclude none" in page
    # Two exclusion rules ask two questions: no number is called the best.
    assert "number best" not in page
