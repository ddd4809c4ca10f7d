#!/usr/bin/env python3
"""One export of each family of image and tabular models that people bring, with random weights; made when a test runs.

Every structural feature of the family is kept; widths, depths and images are small, so that two slow cores are enough.
All numbers are random, biases, scales and running statistics too: a default of zero or one would hide an addition or a product
that is missing, and equal tensors could not be told apart by their values. Dropout and stochastic depth are off: they are random.

Usage: python tests/oracle/make_families.py OUT_FOLDER [FAMILY ...]     writes FAMILY-EXPORT.onnx for each export of each family
"""
import dataclasses
import functools
import importlib
import pathlib
import sys
import typing
import warnings

import torch
import torchvision
from torch import nn

models = torchvision.models
googlenet_of, inception_of = (importlib.import_module(f"torchvision.models.{name}") for name in ("googlenet", "inception"))  # not the functions
warnings.filterwarnings("ignore")


# ---- the networks

def vgg(batch_norm):
    net = models.vgg.VGG(models.vgg.make_layers([16, "M", 24, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"], batch_norm), num_classes=10)
    net.avgpool = nn.AdaptiveAvgPool2d(2)  # of a 2 x 2 map, as 7 of 7 x 7 when images have 224 pixels
    net.classifier[0], net.classifier[3], net.classifier[6] = nn.Linear(64 * 4, 96), nn.Linear(96, 80), nn.Linear(80, 10)
    return net


def efficientnet(width):
    row = functools.partial(models.efficientnet.MBConvConfig, width_mult=width, depth_mult=0.5 if width < 1 else 1.0)
    rows = [row(1, 3, 1, 32, 16, 1), row(6, 3, 2, 16, 24, 2), row(6, 5, 2, 24, 40, 2), row(6, 3, 2, 40, 80, 3), row(6, 5, 1, 80, 112, 3),
            row(6, 5, 2, 112, 192, 4), row(6, 3, 1, 192, 320, 1)]
    return models.EfficientNet(rows, 0.2, stochastic_depth_prob=0.0, num_classes=10)


def mobilenet_v2():
    """Blocks with and without expansion, stride and residual."""
    return models.MobileNetV2(num_classes=10, width_mult=0.35, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 64, 2, 2], [6, 96, 1, 1]])


class Slim(models.ResNet):
    """A fourth of the channels behind the first convolution; the projection of the first stage comes with that."""

    def __init__(self, layers):
        super().__init__(models.resnet.BasicBlock, layers)
        self.fc = nn.Linear(512 // 4, 10)

    def _make_layer(self, block, planes, *args, **kwargs):
        return super()._make_layer(block, planes // 4, *args, **kwargs)


def fourth(channels):
    """A fourth of a width; images keep their three channels."""
    return channels if channels == 3 else channels // 4


def slim_conv(inputs, outputs, **kwargs):
    return inception_of.BasicConv2d(fourth(inputs), fourth(outputs), **kwargs)


def googlenet():
    blocks = [slim_conv, functools.partial(googlenet_of.Inception, conv_block=slim_conv), None]
    net = models.GoogLeNet(10, aux_logits=False, init_weights=False, blocks=blocks)
    net.fc = nn.Linear(1024 // 4, 10)
    return net


def inception_v3():
    kinds = (getattr(inception_of, f"Inception{kind}") for kind in "ABCDE")
    blocks = [slim_conv, *(functools.partial(kind, conv_block=slim_conv) for kind in kinds), None]
    net = models.Inception3(10, aux_logits=False, init_weights=False, inception_blocks=blocks)
    net.fc = nn.Linear(2048 // 4, 10)
    return net


def convnext():
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(24, 48, 1), block(48, 64, 1), block(64, 96, 2), block(96, None, 1)], num_classes=10)


def swin(version):
    v2 = version == 2
    return models.SwinTransformer(
        [4, 4], 24, [2, 2, 2], [2, 3, 4], [7, 7] if not v2 else [8, 8], stochastic_depth_prob=0.0, num_classes=10,
        block=models.swin_transformer.SwinTransformerBlockV2 if v2 else None,
        downsample_layer=models.swin_transformer.PatchMergingV2 if v2 else models.swin_transformer.PatchMerging)


def vit(image, patch, layers, heads, width, mlp):
    return models.VisionTransformer(image, patch, layers, heads, width, mlp, num_classes=10)


@dataclasses.dataclass(frozen=True)
class Family:
    make: typing.Callable[[], nn.Module]
    head: str  # the module that is cut: its input is the embedding
    image: int = 64
    batchnorm: bool = True
    rows: int = 4
    opset: int = 18  # of the dynamo export
    exports: tuple = ()  # those that are tried; all by default


ONE_EXPORTER = ("script", "script-kept")  # of those whose ops the other families' dynamo exports have too
FAMILIES = {
    "resnet18": Family(lambda: Slim([2, 2, 2, 2]), "fc"),
    "resnet50": Family(lambda: models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], width_per_group=32, num_classes=10), "fc",
                       exports=ONE_EXPORTER),
    "vgg11": Family(lambda: vgg(False), "classifier.6", batchnorm=False),
    "vgg11_bn": Family(lambda: vgg(True), "classifier.6", exports=ONE_EXPORTER),
    "densenet121": Family(lambda: models.DenseNet(12, (2, 3, 3, 2), 24, num_classes=10), "classifier"),
    "mobilenet_v2": Family(mobilenet_v2, "classifier.1"),
    "mobilenet_v3": Family(lambda: models.mobilenet_v3_small(num_classes=10, width_mult=0.5), "classifier.3"),
    "efficientnet_b0": Family(lambda: efficientnet(0.25), "classifier.1"),
    "inception_v3": Family(inception_v3, "fc", image=96, rows=3, exports=ONE_EXPORTER),
    "googlenet": Family(googlenet, "fc", exports=ONE_EXPORTER),
    "convnext_tiny": Family(convnext, "classifier.2", batchnorm=False),
    "vit": Family(lambda: vit(64, 16, 3, 3, 96, 192), "heads.head", batchnorm=False),
    "vit_gelu": Family(lambda: vit(64, 16, 2, 3, 96, 192), "heads.head", batchnorm=False, opset=20),
    "swin_t": Family(lambda: swin(1), "head", batchnorm=False),
    "swin_v2_t": Family(lambda: swin(2), "head", batchnorm=False),
}
FULL_SIZE = {  # as people have them, 224 x 224
    "resnet18": Family(lambda: models.resnet18(), "fc", image=224, rows=1),
    "resnet50": Family(lambda: models.resnet50(), "fc", image=224, rows=1),
    "efficientnet_b0": Family(lambda: efficientnet(1.0), "classifier.1", image=224, rows=1),
    "vit_s": Family(lambda: vit(224, 16, 12, 6, 384, 1536), "heads.head", image=224, rows=1, batchnorm=False),
}


def shake(net):
    """No number of the network stays at a value that does nothing."""
    for module in net.modules():
        for name, p in module.named_parameters(recurse=False):
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)) and name == "weight":
                nn.init.uniform_(p, 0.5, 1.0)
            elif name == "layer_scale":
                nn.init.uniform_(p, 0.2, 1.0)
            elif p.ndim == 1 or not p.any() or name in ("class_token", "pos_embedding", "relative_position_bias_table"):
                nn.init.normal_(p, 0, 0.1)
            elif name == "logit_scale":
                nn.init.normal_(p, 2, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
        if isinstance(module, (nn.Dropout, models.swin_transformer.nn.Dropout)):
            module.p = 0.0
    return net


def make(family, seed=0):
    torch.manual_seed(seed)
    return shake(family.make()).eval()


def embed(net, family, x):
    """What goes into the head, by PyTorch."""
    seen = []
    hook = net.get_submodule(family.head).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net(x)
    hook.remove()
    return seen[0]


# ---- the exports

def script(net, x, path, **more):
    torch.onnx.export(net, (x,), str(path), dynamo=False, opset_version=17, input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}}, **more)


@functools.lru_cache(maxsize=1)
def both_of_dynamo(family, seed):
    """As the exporter leaves the graph, and what its optimiser makes of that: half the time of two exports."""
    program = torch.onnx.export(make(family, seed), (images(dataclasses.replace(family, rows=2)),), dynamo=True, verbose=False,
                                opset_version=family.opset, dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["input"],
                                optimize=False)
    kept = program.model_proto.SerializeToString()
    program.optimize()
    return kept, program.model_proto.SerializeToString()


def dynamo(path, family, seed, optimized):
    path.write_bytes(both_of_dynamo(family, seed)[optimized])


def script_kept(net, x, path):
    script(net, x, path, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)


EXPORTS = {  # of families with BatchNorm: folded into convolutions, or kept
    "script": lambda net, x, path, family, seed: script(net, x, path),
    "script-kept": lambda net, x, path, family, seed: script_kept(net, x, path),
    "dynamo": lambda net, x, path, family, seed: dynamo(path, family, seed, True),
    "dynamo-kept": lambda net, x, path, family, seed: dynamo(path, family, seed, False),
}


def exports_of(family):
    return [e for e in EXPORTS if e in (family.exports or EXPORTS) and (family.batchnorm or not e.endswith("kept"))]


def images(family, seed=0):
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randn(family.rows, 3, family.image, family.image, generator=generator)


def write(name, export, path, family=None, seed=0):
    family = family or FAMILIES[name]
    net = make(family, seed)
    EXPORTS[export](net, images(dataclasses.replace(family, rows=2)), path, family, seed)
    return net


# ---- tables: scikit-learn through skl2onnx

def sklearn_mlp(path, classes, activation, zipmap):
    """Writes the classifier behind a scaler; returns the pipeline."""
    import numpy as np
    import skl2onnx
    from sklearn import neural_network, pipeline, preprocessing

    rng = np.random.default_rng(classes)
    x = (3 * rng.standard_normal((200, 12)) + 1).astype(np.float32)
    net = neural_network.MLPClassifier((24, 16), activation=activation, max_iter=5, random_state=0)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), net).fit(x, rng.integers(0, classes, 200))
    options = {neural_network.MLPClassifier: {"zipmap": zipmap}}
    path.write_bytes(skl2onnx.to_onnx(model, x[:1], options=options, target_opset=17).SerializeToString())
    return model


# ---- TensorFlow through tf2onnx: NHWC, asymmetric SAME pads, ReLU6 as Min and Max, one matrix product with bias as Add

def nhwc_network(path, seed=0):
    """As tf2onnx writes Keras' MobileNet: images come (N, H, W, C), every convolution stands between transpositions or behind one,
    SAME pads of stride 2 are (0, 0, 1, 1), an explicit Pad is NHWC, names are TensorFlow's. Returns the same network in PyTorch."""
    import onnx
    from onnx import helper, numpy_helper

    torch.manual_seed(seed)
    net = shake(Nhwc()).eval()
    w = {n: v.detach().numpy() for n, v in net.state_dict().items()}
    nodes, tensors = [], []

    def tensor(name, value):
        tensors.append(numpy_helper.from_array(value, name))
        return name

    def add(op, inputs, name, **attributes):
        nodes.append(helper.make_node(op, inputs, [name + ":0"], name, **attributes))
        return name + ":0"

    def conv(x, name, module, **attributes):
        bias = [tensor(f"model/{name}/BiasAdd/ReadVariableOp:0", w[module + ".bias"])]
        return add("Conv", [x, tensor(f"model/{name}/kernel:0", w[module + ".weight"])] + bias, f"model/{name}/Conv2D", **attributes)

    def relu6(x, name):
        import numpy as np

        x = add("Max", [x, tensor(f"zero__{name}", np.float32(0))], f"model/{name}/Relu6/max")
        return add("Min", [x, tensor(f"six__{name}", np.float32(6))], f"model/{name}/Relu6")

    def ints(name, *values):
        import numpy as np

        return tensor(name, np.array(values, np.int64))

    x = add("Transpose", ["images"], "model/conv1/Conv2D__6", perm=[0, 3, 1, 2])
    x = relu6(conv(x, "conv1", "conv1", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), "conv1")
    x = add("Transpose", [x], "model/conv1/Conv2D__8", perm=[0, 2, 3, 1])
    x = add("Pad", [x, ints("pads", 0, 0, 0, 0, 0, 1, 1, 0)], "model/pad/Pad")
    x = add("Transpose", [x], "model/dw/depthwise__9", perm=[0, 3, 1, 2])
    x = relu6(conv(x, "dw", "dw", kernel_shape=[3, 3], strides=[2, 2], group=16), "dw")
    x = conv(x, "pw", "pw", kernel_shape=[1, 1])
    norm = [tensor(f"model/bn/{n}:0", w["bn." + t]) for n, t in
            (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var"))]
    x = add("BatchNormalization", [x] + norm, "model/bn/FusedBatchNormV3", epsilon=1e-3)
    x = y = relu6(x, "pw")
    x = add("MaxPool", [x], "model/pool/MaxPool", kernel_shape=[3, 3], strides=[1, 1], auto_pad="SAME_UPPER")
    x = add("Transpose", [add("Add", [x, y], "model/add/add")], "model/add__12", perm=[0, 2, 3, 1])
    x = add("ReduceMean", [x], "model/gap/Mean", axes=[1, 2], keepdims=0)
    x = add("MatMul", [x, tensor("model/dense/MatMul/ReadVariableOp:0", w["dense.weight"].T.copy())], "model/dense/MatMul")
    x = add("Tanh", [add("Add", [x, tensor("model/dense/BiasAdd/ReadVariableOp:0", w["dense.bias"])], "model/dense/BiasAdd")],
            "model/dense/Tanh")
    x = add("MatMul", [x, tensor("model/predictions/MatMul/ReadVariableOp:0", w["head.weight"].T.copy())], "model/predictions/MatMul")
    x = add("Add", [x, tensor("model/predictions/BiasAdd/ReadVariableOp:0", w["head.bias"])], "model/predictions/BiasAdd")
    x = add("Softmax", [x], "model/predictions/Softmax")
    graph = helper.make_graph(nodes, "tf2onnx", [helper.make_tensor_value_info("images", 1, ["unk__5", 33, 33, 3])],
                              [helper.make_tensor_value_info(x, 1, ["unk__6", 10])], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tf2onnx"), path)
    return net


class Nhwc(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.dw = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 16, 3, 2, groups=16)
        self.pw, self.bn = nn.Conv2d(16, 24, 1), nn.BatchNorm2d(24, eps=1e-3)
        self.dense, self.head = nn.Linear(24, 20), nn.Linear(20, 10)

    def forward(self, x):
        pad = nn.functional.pad
        x = nn.functional.relu6(self.conv1(pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1))))
        x = nn.functional.relu6(self.dw(pad(x, (0, 1, 0, 1))))
        x = nn.functional.relu6(self.bn(self.pw(x)))
        x = nn.functional.max_pool2d(x, 3, 1, 1) + x
        return torch.softmax(self.head(torch.tanh(self.dense(x.mean((2, 3))))), 1)


def main(folder, *names):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FAMILIES:
        for export in exports_of(FAMILIES[name]):
            write(name, export, folder / f"{name}-{export}.onnx")
            print(folder / f"{name}-{export}.onnx")


if __name__ == "__main__":
    main(*sys.argv[1:])
