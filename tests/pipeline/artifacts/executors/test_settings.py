"""What is typed of a cluster that is started."""

from __future__ import annotations

import pytest

from pipeline.artifacts.executors.settings import read_settings
from pipeline.terminal.errors import ReidpipeError

SLURM = ["cores=8", "memory=32GB"]


def test_values_are_what_was_meant() -> None:
    found = read_settings(
        "slurm",
        [
            *SLURM,
            "walltime=1:00:00",  # YAML 1.1 would make 3600 of it
            "queue=7",
            "job_extra_directives=--constraint=a100",
            "job_extra_directives=[--qos=high, '--mail-user=a@b']",
        ],
    )
    assert found == {
        "cores": 8,
        "memory": "32GB",
        "walltime": "1:00:00",
        "queue": "7",
        "job_extra_directives": ["--constraint=a100", "--qos=high", "--mail-user=a@b"],
    }
    hosts = read_settings("ssh", ["hosts=a,b", "hosts=[c]", "port=2222"])
    assert hosts == {"hosts": ["a", "b", "c"], "port": 2222}


@pytest.mark.parametrize(
    ("kind", "texts", "words"),
    [
        ("slurm", [*SLURM, "wall_time=1"], "did you mean 'walltime'"),
        ("slurm", [*SLURM, "hosts=a"], "expected queue, account"),
        ("slurm", [*SLURM, "cores=2"], "found cores twice"),
        ("slurm", ["cores=many"], "a positive whole number"),
        ("slurm", ["cores=-1"], "a positive whole number"),
        ("slurm", ["cores"], "expected NAME=VALUE"),
        ("slurm", ["cores=8"], "found no memory"),
        ("slurm", [*SLURM, "queue="], "expected a word"),
        ("slurm", [*SLURM, "queue=a\nb"], "expected a word"),
        ("slurm", [*SLURM, "job_script_prologue=[1, 2]"], "text, or a list"),
        ("slurm", [*SLURM, "job_script_prologue=[[a"], "text, or a list"),
        ("ssh", [], "found no hosts"),
        ("ssh", ["hosts=-oProxyCommand=x"], "names or addresses"),
        ("ssh", ["hosts=a b"], "names or addresses"),
        ("ssh", ["hosts=a,,b"], "names or addresses"),
        ("ssh", ["hosts={a: b}"], "names or addresses"),
    ],
)
def test_a_mistake_is_one_line(kind: str, texts: list[str], words: str) -> None:
    with pytest.raises(ReidpipeError) as caught:
        read_settings(kind, texts)
    line = str(caught.value)
    assert words in line and "\n" not in line and len(line) <= 500
