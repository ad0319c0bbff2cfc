"""Files with weights: what is read, what is refused and in which words."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.artifacts.atomic import sha256_file
from pipeline.terminal.errors import ReidpipeError
from reid_train.engine.checkpoint import (
    load_state,
    load_strict,
    read_state_dict,
    save_model,
    save_state,
    unwrap,
)


class Net(nn.Module):
    relative_position_index: torch.Tensor

    def __init__(self, out: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(2, out)
        self.norm = nn.BatchNorm1d(out)
        self.register_buffer("relative_position_index", torch.arange(4))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_model_comes_back_as_it_was(tmp_path):
    net = Net().to(memory_format=torch.channels_last)
    net.tied = net.layer  # shared memory, which safetensors alone refuses
    save_model(tmp_path, net, {"recipe": "x"})
    assert same(read_state_dict(tmp_path / "model.safetensors"), net.state_dict())
    meta = json.loads((tmp_path / "model.json").read_text())
    assert meta == {
        "recipe": "x",
        "weights_sha256": sha256_file(tmp_path / "model.safetensors"),
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "teacher"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrappers_and_prefixes_come_off(tmp_path, wrap, prefix):
    net = Net()
    state = {prefix + key: value for key, value in net.state_dict().items()}
    content = {wrap: state, "epoch": 3, "rank1": np.float64(0.5)} if wrap else state
    torch.save(content, tmp_path / "net.pth.tar-60")
    assert same(read_state_dict(tmp_path / "net.pth.tar-60"), net.state_dict())


def test_a_prefix_that_only_some_keys_have_belongs_to_the_network():
    state = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    assert unwrap(state).keys() == state.keys()


class Payload:
    """Runs a command when unpickled, as a malicious checkpoint would."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


def test_a_pickle_with_code_is_refused_in_one_line_and_not_run(tmp_path):
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "x": Payload(tmp_path / "ran")}, tmp_path / "f"
    )
    with pytest.raises(ReidpipeError, match="not plain weights") as error:
        read_state_dict(tmp_path / "f")
    assert "\n" not in str(error.value) and "exec" in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_objects_beside_the_weights_are_refused_by_name(tmp_path):
    torch.save({"model": Net().state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "f.pt")
    with pytest.raises(ReidpipeError, match="Namespace"):
        read_state_dict(tmp_path / "f.pt")


@pytest.mark.parametrize("name", ["f.pth", "f.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02}q\x00.", b"{" * 50])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReidpipeError) as error:
        read_state_dict(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_cut_file_is_refused(tmp_path):
    save_file(Net().state_dict(), tmp_path / "a.safetensors")
    torch.save(Net().state_dict(), tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ReidpipeError, match=name):
            read_state_dict(path)


def test_an_absent_file_and_one_without_tensors(tmp_path):
    with pytest.raises(ReidpipeError, match="no file"):
        read_state_dict(tmp_path / "none.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(ReidpipeError, match="no tensors"):
        read_state_dict(tmp_path / "empty.pt")


def test_weights_of_another_network_are_refused_by_name_and_change_nothing():
    net = Net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = dict(Net(out=4).state_dict())
    state["head.weight"] = state.pop("layer.bias")
    with pytest.raises(ReidpipeError) as error:
        load_strict(net, state, source="other.pt")
    text = str(error.value)
    assert "other.pt" in text and "\n" not in text
    assert "1 missing keys, first 'layer.bias'" in text
    assert "1 unknown keys, first 'head.weight'" in text
    assert "wrong shapes, first 'layer.weight' (4, 2) instead of (3, 2)" in text
    assert same(net.state_dict(), before)


def test_counters_and_index_buffers_are_never_missing_nor_unknown():
    donor, net = Net(), Net()
    state = {k: v for k, v in donor.state_dict().items() if "tracked" not in k and "index" not in k}
    load_strict(net, state | {"other.num_batches_tracked": torch.tensor(3)})
    assert torch.equal(net.layer.weight, donor.layer.weight)
    # A file's own index is not trusted, whatever its shape.
    load_strict(net, {**donor.state_dict(), "relative_position_index": torch.zeros(9).long()})
    assert torch.equal(net.relative_position_index, torch.arange(4))
    counted = {**donor.state_dict(), "norm.num_batches_tracked": torch.tensor(7)}
    load_strict(net, counted)
    assert net.norm.num_batches_tracked == 7


def test_patterns_make_keys_optional():
    net = Net()
    state = {k: v for k, v in Net().state_dict().items() if not k.startswith("norm")}
    state["classifier.weight"] = torch.zeros(2)
    with pytest.raises(ReidpipeError):
        load_strict(net, state)
    load_strict(net, state, optional=["norm.*", "classifier.*"])


def test_half_precision_files_are_loaded_as_float32():
    net, donor = Net(), Net()
    load_strict(
        net, {k: v.half() if v.is_floating_point() else v for k, v in donor.state_dict().items()}
    )
    assert net.layer.weight.dtype == torch.float32
    torch.testing.assert_close(net.layer.weight, donor.layer.weight, atol=1e-3, rtol=1e-3)


def test_state_holds_plain_values_only(tmp_path):
    state = {"a": torch.ones(2), "b": [1, 2.5, None, True, "x", (3, 4)], "c": {"d": {}}}
    save_state(tmp_path / "s.pt", state)
    back = load_state(tmp_path / "s.pt")
    assert torch.equal(back.pop("a"), state.pop("a")) and back == state
    with pytest.raises(TypeError, match="state.x.1 is float64"):
        save_state(tmp_path / "s.pt", {"x": [0, np.float64(1)]})
    assert load_state(tmp_path / "s.pt").keys() == {"a", "b", "c"}, "the old file is untouched"
