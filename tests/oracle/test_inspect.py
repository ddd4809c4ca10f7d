"""`inspect` of big models fits a page, says what training will cost, and what it says is true.

FT_BUILD names the build folder. Models are torchvision's with random weights.
"""
# alone: seconds are compared
import re

import numpy as np
import onnx
import pytest
import torch
import torchvision

import finetuner_cli as cli

PAGE, WIDTH = 50, 120  # lines of a page; columns of the table


MODELS = [
    ("resnet50", (3, 224, 224), 2048),
    ("densenet121", (3, 64, 64), 1024),
    ("efficientnet_b0", (3, 64, 64), 1280),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("inspect")


def made(folder, name, shape):
    path = folder / f"{name}.onnx"
    if not path.exists():
        torch.manual_seed(cli.SEED)
        cli.export(getattr(torchvision.models, name)(weights=None).eval(), path, shape, keep_batchnorm=True)
    return path


def table(text):
    """Lines of the layers, up to the empty one."""
    return text.split("\n\n")[0].splitlines()


@pytest.mark.parametrize("name,shape,dim", MODELS)
def test_a_big_model_fits_a_page(folder, name, shape, dim):
    made(folder, name, shape)
    result = cli.ok("inspect", f"{name}.onnx", "--measure", "no", cwd=folder)
    print("\n" + result.out)
    lines = table(result.out)
    assert len(result.out.splitlines()) <= PAGE and len(lines) <= 32
    assert all(len(line) <= WIDTH for line in lines)
    told = cli.ok("inspect", f"{name}.onnx", "--measure", "no", "--json", cwd=folder).json()
    assert told["dim"] == dim and told["costs"]["epoch_seconds_per_1000"] is None
    full = table(cli.ok("inspect", f"{name}.onnx", "--measure", "no", "--full", cwd=folder).out)
    assert len(full) == 1 + len(told["layers"]) > PAGE
    assert f"{len(told['layers'])} layers; --full" in lines[-1]
    # Nothing is lost: parameters of the blocks sum up to those of the layers.
    counts = [re.findall(r" ([\d,]+)  (?:trained|frozen|partly trained|cut)$", line) for line in lines]
    assert sum(int(c[0].replace(",", "")) for c in counts if c) == sum(x["parameters"] for x in told["layers"])


def test_the_blocks_of_resnet50(folder):
    made(folder, "resnet50", (3, 224, 224))
    lines = table(cli.ok("inspect", "resnet50.onnx", "--measure", "no", "--freeze", "conv1,bn1,layer1,layer2.0", cwd=folder).out)
    first = [line.split("  ")[0] for line in lines]
    assert first[5:13] == [
        "layer1.0", "layer1.1 x 2", "layer2.0", "layer2.1 x 3", "layer3.0", "layer3.1 x 5", "layer4.0", "layer4.1 x 2",
    ]
    fates = {line.split("  ")[0]: line.split()[-1] for line in lines}
    assert fates["layer1.1 x 2"] == fates["layer2.0"] == "frozen" and fates["layer2.1 x 3"] == "trained"
    assert fates["fc"] == "cut"


def test_names_that_say_nothing(folder):
    """torch's newer exporter calls nodes node_conv2d_7: blocks are found by repetition."""
    model = onnx.load(made(folder, "resnet50", (3, 224, 224)))
    for i, node in enumerate(model.graph.node):
        node.name = f"node_{i}"
    onnx.save(model, folder / "nameless.onnx")
    lines = table(cli.ok("inspect", "nameless.onnx", "--measure", "no", cwd=folder).out)
    print("\n" + "\n".join(lines))
    assert len(lines) <= 32
    assert sum(" x 5" in line for line in lines) == 1


def test_what_it_costs_is_true(folder):
    """Memory against the system's count of a real run; seconds against those of a real epoch."""
    images, labels = cli.digits(256)
    net = cli.half_trained(cli.Cnn)
    cli.export(net, folder / "cnn.onnx", net.SHAPE, keep_batchnorm=True)
    cli.write_jsonl(folder / "train.jsonl", images, labels)
    costs = cli.ok("inspect", "cnn.onnx", "--json", cwd=folder).json()["costs"]
    fit = cli.ok("fit", "cnn.onnx", "train.jsonl", "--epochs", 20, "--quiet", "--json", "--out", "o.zip", cwd=folder).json()
    epoch = fit["train_seconds"] / 20 / 256 * 1000
    print(f"\ninspect: {costs['epoch_seconds_per_1000']:.4f} s for 1,000 documents, {costs['train_memory_bytes'] / 1e6:.0f} MB;"
          f" fit: {epoch:.4f} s, {fit['peak_memory_bytes'] / 1e6:.0f} MB")
    assert costs["step_is_measured"] and costs["timed_batch"] == 128
    # Other programs run beside both; what is wrong by its nature is wrong by more.
    # One step against a whole run on a machine with neighbours: the size is promised, not the digits.
    assert 0.05 < costs["epoch_seconds_per_1000"] / epoch < 20
    assert 0.5 < costs["train_memory_bytes"] / fit["peak_memory_bytes"] < 2
    frozen = cli.ok("inspect", "cnn.onnx", "--freeze", "all", "--output-dim", 24, "--json", cwd=folder).json()["costs"]
    kept = cli.ok("fit", "cnn.onnx", "train.jsonl", "--epochs", 2, "--freeze", "all", "--output-dim", 24, "--quiet", "--json", "--out", "o.zip", cwd=folder).json()
    assert frozen["frozen_bytes_per_item"] == kept["frozen_prefix"]["bytes_per_item"]
    assert frozen["epoch_seconds_per_1000"] < costs["epoch_seconds_per_1000"]


def test_what_cannot_be_trained_says_why(folder):
    inputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", 4]) for n in ("a", "b")]
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [onnx.helper.make_node("Add", ["a", "b"], ["s"]), onnx.helper.make_node("MatMul", ["s", "w"], ["y"])]
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "two", inputs, [out], [weight]), opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, folder / "two.onnx")
    result = cli.ok("inspect", "two.onnx", "--keep-head", cwd=folder)
    assert "several inputs" in result.out
    assert cli.ok("inspect", "two.onnx", "--keep-head", "--json", cwd=folder).json()["costs"] is None
