"""The HTML report: what it shows and says of every kind of run, and that it loads nothing."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.index import Index, read_index, write_index
from pipeline.labels.sets import LIP
from pipeline.labels.writing import MapWriter
from pipeline.terminal.errors import ReidpipeError
from reid_train.evaluation.statistics.stored import STATISTICS, StoredStatistics
from reid_train.evaluation.stored_ranking import StoredRanking
from reid_train.evaluation.work import evaluate
from reid_train.figures.page.cameras import cameras
from reid_train.figures.page.card import dataset
from reid_train.figures.page.curves import rates
from reid_train.figures.page.inline import chart, image_uri, small
from reid_train.figures.page.parts import label_maps
from reid_train.figures.page.provenance import provenance
from reid_train.figures.page.queries import confusions, differences, hardest
from reid_train.figures.page.summary import summary
from reid_train.figures.page.verdict import Pair, notes
from reid_train.figures.page.views import RunView
from reid_train.figures.page.writing import render, write_report
from tests.reid_train.figures.pages import Page

RATE = {"images_per_s": 90.0, "seconds": 2.0}
MARKUP = "<img src=x onerror=alert(1)>"


def statistics(**changed: object) -> StoredStatistics:
    """By hand, of five people and three cameras."""
    value = {
        "resampling": {"draws": 1000, "level": 0.95, "people": 5},
        "intervals": {"mAP": [0.4125, 0.7875], "Rank-1": [0.2, 0.9]},
        "cmc": {"rank": [1, 2, 3], "value": [0.5, 0.75, 1], "low": [0.2, 0.5, 0.9],
                "high": [0.8, 0.9, 1]},
        "roc": {"fpr": [0.001, 0.01, 1], "tpr": [0.1, 0.5, 1]},
        "tpr_at_fpr": {"0.1": {"value": 0.625, "interval": [0.5, 0.7]}, "0.01": {"value": 0.5}},
        "camera_pairs": [
            {"query": 0, "gallery": 1, "queries": 5, "mAP": 0.625, "Rank-1": 0.4,
             "intervals": {"mAP": [0.3, 0.8]}},
            {"query": 0, "gallery": 2, "queries": 4, "mAP": 0.125, "Rank-1": 0.0},
        ],
        "confusions": [{"pid": 3, "taken_for": 1, "queries": 2}],
        "chance": {"mAP": 0.0625},
        **changed,
    }  # fmt: skip
    return StoredStatistics.model_validate(value)


@pytest.fixture(scope="module")
def views(make_prepared):
    little = make_prepared()
    log = [
        {"event": "epoch", "stage": "train", "epoch": epoch, "loss": 3 / (epoch + 1), **RATE}
        for epoch in range(4)
    ]
    (little.model / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    stage = little.root / "prompts"
    stage.mkdir()
    line = {"event": "epoch", "stage": "prompt <b>", "epoch": 0, "loss": 1.0, **RATE}
    (stage / "log.jsonl").write_text(json.dumps(line) + "\n")
    maps = little.root / "maps"
    with MapWriter(maps, LIP, {"model": "by hand"}, size=(32, 16)) as writer:
        for row in read_index(little.index).rows:
            label = np.zeros((32, 16), np.uint8)
            label[8:20, 3:13] = 5
            sure = np.ones((32, 16), np.float32)
            writer.add(row.key, label, sure, source_size=(128, 48), source_digest=row.digest)
    made = []
    for name, params in (
        (f"plain {MARKUP}", {"rerank": {"k1": 6, "k2": 3, "lam": 0.3}}),
        ("flipped", {"flip": True}),
    ):
        job = little.job(re.sub(r"\W", "", name), **params)
        evaluate(job)
        statistics().write(job.folder)
        provenance = {"note": "<script>alert(1)</script>", "trained on": "little"}
        made.append(
            RunView(
                name, job.folder, little.index, little.model, earlier=[stage], maps=maps,
                provenance=provenance,
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def both(views, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(path, views, f"Two runs & {MARKUP}", date=MARKUP).read_text()


def elsewhere(view: RunView, folder: Path, **changed: object) -> RunView:
    """The same evaluation in a folder of its own, with a change."""
    shutil.copytree(view.evaluation, folder)
    return dataclasses.replace(view, evaluation=folder, **changed)


def test_a_page_that_loads_nothing(both):
    page = Page.of(both)
    loaded = [address for address in page.addresses if not address.startswith("#")]
    assert loaded and all(address.startswith("data:") for address in loaded)
    assert "@import" not in both and not re.search(r"url\((?!#)", both)
    assert page.tags.isdisjoint({"script", "iframe", "object", "embed", "form", "base", "video"})
    assert "default-src 'none'" in both
    for address in loaded:
        kind, _, content = address.partition(";base64,")
        if kind == "data:image/webp":
            Image.open(io.BytesIO(base64.b64decode(content))).load()
        else:
            assert address == "data:,"  # the icon, which browsers ask a server for
    assert len(both) < 1_000_000


def test_contents_name_every_section_and_pictures_have_words(both):
    page = Page.of(both)
    assert page.anchors == [f"#{name}" for name in page.sections]
    assert page.sections == [
        "summary", "curves", "training", "dataset", "differences", "queries", "confusions",
        "cameras", "similarity", "features", "maps", "provenance",
    ]  # fmt: skip
    assert page.untold == [] and len(page.ids) == len(set(page.ids))
    inner = {address[1:] for address in page.addresses if address.startswith("#")}
    assert inner <= set(page.ids)


def test_what_people_named_stays_text(both):
    page = Page.of(both)
    assert page.handlers == [] and "script" not in page.tags
    assert MARKUP in page.text and "<script>alert(1)</script>" in page.text
    assert "<img src=x" not in both and "prompt <b>" not in both
    assert both.count("<title>") == 1  # none of a chart, whose text would be a tip


def test_a_file_s_name_stays_text(views, tmp_path):
    index = read_index(views[1].index)
    hostile = f'"{MARKUP}.png'
    key = str(views[1].ranking.query_keys[0])
    (tmp_path / "files").symlink_to(index.root)
    shutil.copyfile(index.root / key, tmp_path / hostile)
    rows = [
        dataclasses.replace(row, key=hostile, path=hostile)
        if row.key == key
        else dataclasses.replace(row, path=f"files/{row.path}", key=f"files/{row.path}")
        for row in index.rows
    ]
    write_index(tmp_path / "index", Index("little", tmp_path, rows))
    view = dataclasses.replace(views[1], index=tmp_path / "index")
    named = dataclasses.asdict(view.ranking)
    for side in ("query_keys", "gallery_keys"):
        named[side] = np.array(
            [hostile if name == key else f"files/{name}" for name in named[side].tolist()]
        )
    vars(view)["ranking"] = StoredRanking(**named)
    sections = [dataset([view]), hardest([view])]
    page = Page.of(render(sections, "t", None, []))
    assert page.handlers == [] and page.untold == [] and hostile in page.text


def test_the_first_screen_has_intervals_and_conditions(views, both):
    page = Page.of(both)
    for view in views:
        assert f"{100 * view.metrics['mAP']:.1f}" in page.text and view.conditions in page.text
        for part in ("protocol standard", "exclude same-camera", "5 of 5 queries", "128x48"):
            assert part in view.conditions
    assert "without flip test" in views[0].conditions
    assert "with flip test" in views[1].conditions
    assert "41.2 to 78.8" in page.text and "20.0 to 90.0" in page.text
    assert "95 % intervals by bootstrap over identities: 1000 draws of 5 people" in page.text
    assert "--low: 41.2; --high: 78.8; --chance: 6.2" in both
    assert "re-ranked (k1 6, k2 3" in page.text
    assert "--flip" in page.text and "--rerank" in page.text


def with_ap(view: RunView, folder: Path, name: str, ap: list[float]) -> RunView:
    """The same evaluation with other average precisions of its five queries, of a person each."""
    changed = elsewhere(view, folder, name=name)
    ranking = {**vars(view.ranking), "ap": np.array(ap), "pids": np.arange(5)}
    np.savez(folder / "ranking.npz", **{k: v for k, v in ranking.items() if v is not None})
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "mAP": float(np.mean(ap))}))
    return changed


def test_the_verdict_by_hand(views, tmp_path):
    low = with_ap(views[1], tmp_path / "low", "low", [0.1, 0.2, 0.3, 0.4, 0.5])
    high = with_ap(views[1], tmp_path / "high", "high", [0.6, 0.7, 0.8, 0.9, 0.9])
    text = Page.of(render([summary([low, high])], "t", None, [])).text
    # All five people differ the same way: of 2^5 flips two are as far from 0, p = 2/32 = .0625.
    assert "high and low cannot be told apart: mAP differs by 48.0 points" in text
    assert "within noise (p = 0.062)" in text or "within noise (p = 0.063)" in text
    assert "paired over 5 identities" in text and "Holm" not in text
    others = dataclasses.replace(low, name="third")
    three = Page.of(render([summary([low, high, others])], "t", None, [])).text
    assert "p after Holm for 3 comparisons" in three and "+48.0" in three
    assert three.count("cannot be told apart") == 1  # the best and the next, the first of the page


def test_a_map_near_chance_is_warned_of(views):
    poor = dataclasses.replace(views[1])
    near = {"chance": {"mAP": 0.3}, "intervals": {"mAP": [0.25, 0.5]}}
    vars(poor)["metrics"] = {**views[1].metrics, "mAP": 0.4, **near}
    (line,) = summary([poor]).content["warnings"]
    assert line.startswith("mAP 40.0 [25.0, 50.0] of flipped cannot be told from 30.0")
    assert "reidpipe report" not in line
    assert f'<p class="warning">{line}</p>' in render([summary([poor])], "t", None, [])


def test_a_difference_beyond_noise():
    row = {"difference": 0.125, "interval": [0.0625, 0.2], "p": 0.0001, "p_corrected": 0.0003,
           "beyond_noise": True, "people": 40, "comparisons": 3}  # fmt: skip
    pair = Pair("a", "b", {"mAP": row})
    assert pair.sentence == (
        "a is better than b by 12.5 points of mAP (6.2 to 20.0), beyond noise "
        "(p < 0.001, corrected for 3 comparisons)."
    )
    untested = Pair("a", "c", {"mAP": {**row, "p": None, "why": "other queries"}})
    first, second = notes([pair, untested])
    assert first == "Not compared: other queries."
    assert second.startswith("In points; paired over 40 identities") and "Holm for 3" in second


def test_cameras_confusions_and_rates_as_stored(both):
    page = Page.of(both)
    assert "camera 0 to 1: mAP 62.5 (30.0 to 80.0), Rank-1 40.0, 5 queries" in both
    assert "camera 0 to 2: mAP 12.5, Rank-1 0.0, 4 queries" in both
    row = re.search(r"<tr><td>3</td><td>1</td><td class=\"number\">2</td>", both)
    assert row is not None
    assert "FPR 10 %" in page.text and "50.0 to 70.0" in page.text
    for words in ("CMC of plain", "ROC of plain", "mean loss per epoch of stage train"):
        assert f'aria-label="{words}' in both
    # Earlier stages first, and each of them once.
    stages = re.findall(r'aria-label="mean loss per epoch of stage ([^"]*)"', both)
    assert stages == ["prompt &lt;b&gt;", "train"]


def test_equal_content_gives_equal_bytes(views, both, tmp_path):
    title = f"Two runs & {MARKUP}"
    assert write_report(tmp_path / "again.html", views, title, date=MARKUP).read_text() == both


def test_comparison_shows_the_queries_that_changed(views):
    ranking = views[1].ranking
    worse = StoredRanking(**{**vars(ranking), "ap": ranking.ap - np.array([0.5, 0, 0, 0, 0])})
    changed = dataclasses.replace(views[1], name="worse")
    vars(changed)["ranking"] = worse
    section = differences([views[1], changed])
    assert section is not None
    text = Page.of(render([section], "t", None, [])).text
    assert "AP -50.0 points" in text and text.count("points:") == 1
    assert "worse ranks 0 of 5 queries better than flipped and 1 worse" in text
    assert differences([changed]) is None


def test_the_hardest_query_says_what_it_was_taken_for(views):
    ranking = views[1].ranking
    shown = np.flatnonzero(~ranking.junk[0])
    pids = [
        views[1].pictures.rows[str(key)].pid
        for key in ranking.gallery_keys[ranking.indices[0, shown]]
    ]
    other = next(place for place, pid in enumerate(pids) if pid != pids[0])
    correct = ranking.correct.copy()
    correct[0] = False
    correct[0, shown[other]] = True
    hard = dataclasses.replace(views[1])
    vars(hard)["ranking"] = StoredRanking(
        **{**vars(ranking), "correct": correct, "ap": np.array([0.1, 1, 1, 1, 1])}
    )
    page = Page.of(render([hardest([hard])], "t", None, []))
    first = views[1].pictures.rows[str(ranking.gallery_keys[ranking.indices[0, shown[0]]])]
    assert f"taken for id\u00a0{first.pid}, camera\u00a0{first.camid} (" in page.text
    assert f"the first right match stands at rank {other + 1}" in page.text
    assert "found at once" in page.text


def test_an_evaluation_of_an_older_version_says_so(views, tmp_path):
    old = elsewhere(views[1], tmp_path / "old")
    (old.evaluation / STATISTICS).unlink()
    assert rates([old]) is cameras([old]) is confusions([old]) is None
    text = Page.of(render([summary([old])], "t", None, [])).text
    assert text.count("evaluated by an older version; type reidpipe eval flipped") == 1
    mixed = [old, views[0]]
    sections = [cameras(mixed), confusions(mixed)]
    text = Page.of(render([s for s in sections if s is not None], "t", None, [])).text
    assert text.count("evaluated by an older version; type reidpipe eval flipped") == 2


def test_what_could_not_be_computed_says_why(views, tmp_path):
    names = ("intervals", "cmc", "roc", "tpr_at_fpr", "camera_pairs", "confusions", "chance")
    why = {name: f"{name} for a reason" for name in names}
    bare = elsewhere(views[1], tmp_path / "bare", model=None, earlier=(), maps=None)
    statistics(**dict.fromkeys(names), resampling=None, why=why).write(bare.evaluation)
    about = json.loads((bare.evaluation / "protocol.json").read_text())
    (bare.evaluation / "protocol.json").write_text(json.dumps({**about, "trials": 10}))
    figures = json.loads((bare.evaluation / "metrics.json").read_text())
    (bare.evaluation / "metrics.json").write_text(json.dumps({**figures, "trials": 10}))
    page = Page.of(write_report(tmp_path / "a.html", [bare], "t").read_text())
    assert "training" not in page.sections and "maps" not in page.sections
    assert "differences" not in page.sections and "Best of" not in page.text
    for name in ("intervals", "cmc", "roc", "camera_pairs", "confusions"):
        assert f"{name} for a reason" in page.text
    assert "mean of 10 drawn galleries" in page.text and "Of the first of 10 trials." in page.text


def test_five_runs_and_one_query(views):
    ranking = vars(views[1].ranking)
    one = dataclasses.replace(views[1])
    sides = ("query_keys", "indices", "similarities", "correct", "junk", "ap", "valid")
    vars(one)["ranking"] = StoredRanking(**{**ranking, **{s: ranking[s][:1] for s in sides}})
    assert [group["title"] for group in hardest([one]).content["runs"][0]["groups"]] == ["Hardest"]
    five = [dataclasses.replace(views[1], name=f"run {n}") for n in range(5)]
    page = Page.of(render([summary(five), provenance(five)], "t", None, []))
    assert "Best of 5 runs by mAP: run 0" in page.text


def test_what_runs_have_in_common_is_said_once(views):
    rows = {row["name"]: row for row in provenance(views).content["rows"]}
    assert rows["seed"]["values"] == ["3"] and rows["seed"]["same"]
    assert rows["evaluation"]["values"] == [view.evaluation.name for view in views]
    plain, flipped = rows["evaluated by"]["values"]
    model = views[0].protocol["inputs"]["model"]  # of a name that is not one word
    asked = "--protocol standard --exclude same-camera --distance cosine"
    assert plain == f"reidpipe eval {model} {asked} --rerank"
    assert flipped == f"reidpipe eval flipped {asked} --flip"


def test_images_without_cameras_and_of_many_sizes(make_prepared):
    sizes = iter(range(100, 200))
    bare = make_prepared(
        lambda row: dataclasses.replace(row, camid=None, width=next(sizes), height=300)
    )
    job = bare.job("evaluation", exclude="none")
    evaluate(job)
    statistics(camera_pairs=None, why={"camera_pairs": "no image has a camera"}).write(job.folder)
    view = RunView("bare", job.folder, bare.index)
    sections = [dataset([view]), hardest([view]), cameras([view])]
    page = Page.of(render([s for s in sections if s is not None], "t", None, []))
    assert "no image has a camera" in page.text and "camera\u00a0" not in page.text
    # 30 images, 100 to 129 wide: least, quartiles, greatest
    (card,) = dataset([view]).content["cards"]
    assert card["sizes"]["width"] == ["100", "107.25", "114.5", "121.75", "129"]
    assert card["sizes"]["distinct"] == 30
    assert sum(bar["images"] for bar in card["sizes"]["bars"]) == 30
    assert [line["per_person"] for line in card["splits"]] == ["1", "5"]


def test_runs_on_two_datasets_are_not_ranked(views, make_prepared):
    other = make_prepared(dataset="other")
    job = other.job("evaluation")
    evaluate(job)
    view = RunView("elsewhere", job.folder, other.index, other.model)
    asked = [views[1], view]
    assert differences(asked) is None and len(dataset(asked).content["cards"]) == 2
    text = Page.of(render([summary(asked)], "t", None, [])).text
    assert "answer different questions" in text and "Best of" not in text
    assert "Protocol of elsewhere:" in text


def test_report_mistakes(views, tmp_path):
    with pytest.raises(ReidpipeError, match="no run"):
        write_report(tmp_path / "a.html", [], "t")
    with pytest.raises(ReidpipeError, match="label maps"):
        label_maps([dataclasses.replace(views[0], maps=tmp_path)])


def test_small_keeps_proportions_and_enlarges_nothing():
    assert small(np.zeros((256, 128, 3), np.uint8)).shape == (128, 64, 3)
    assert small(np.zeros((100, 400, 3), np.uint8)).shape == (32, 128, 3)
    assert small(np.zeros((20, 10, 3), np.uint8)).shape == (20, 10, 3)
    assert image_uri(np.zeros((4, 4, 3), np.uint8)).startswith("data:image/webp;base64,")


def test_a_chart_takes_the_page_s_colours_and_ids_of_its_own():
    svg = (
        '<?xml version="1.0"?><svg viewBox="0 0 9 9"><metadata>m</metadata><style>*{}</style>'
        '<g id="a" style="fill: #ffffff; stroke: #222222"/><use href="#a" clip-path="url(#a)"/>'
        '<path style="fill: #222222ff; stroke: #0072B2"/></svg>'
    )
    found = str(chart(svg, "cmc", 'of "<b>"'))
    assert 'id="cmc-a"' in found and 'href="#cmc-a" clip-path="url(#cmc-a)"' in found
    assert "fill: var(--paper); stroke: currentColor" in found and "#0072B2" in found
    assert "<style" not in found and "metadata" not in found and "<?xml" not in found
    assert 'aria-label="of &#34;&lt;b&gt;&#34;"' in found or "&quot;&lt;b&gt;&quot;" in found
