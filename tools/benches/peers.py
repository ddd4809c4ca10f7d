"""One contender in a process of its own, driven line by line: `python peers.py WHAT ...` prints "ready", then for each line on
standard input the seconds of one run, and at the end a JSON object with its peak memory.

WHAT is onnxruntime MODEL BATCH, openvino MODEL BATCH PRECISION, or torch FAMILY BATCH PRECISION (a training step: channels_last,
pytorch-metric-learning's TripletMarginMiner and TripletMarginLoss, AdamW).
"""
import json
import pathlib
import sys
import time

import numpy as np

THREADS = 2


def peak_memory():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def serve(run):
    for _ in range(2):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(f"{time.perf_counter() - start:.9f}", flush=True)
    print(json.dumps({"peak_memory_bytes": peak_memory()}), flush=True)


def images(batch):
    return np.random.default_rng(1).standard_normal((int(batch), 3, 224, 224)).astype(np.float32)


def onnxruntime(model, batch):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images(batch)}
    serve(lambda: session.run(None, feed))


def openvino(model, batch, precision):
    import openvino as ov

    x = images(batch)
    core = ov.Core()
    network = core.read_model(model)
    network.reshape(list(x.shape))  # a fixed batch is its best
    request = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY",
                                                  "INFERENCE_PRECISION_HINT": precision}).create_infer_request()
    serve(lambda: request.infer([x]))


def torch(family, batch, precision):
    import torch
    from pytorch_metric_learning import losses, miners

    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "oracle"))
    import make_families as families

    torch.set_num_threads(THREADS)
    entry = families.FULL_SIZE[family]
    net = families.make(entry)
    parent, _, leaf = entry.head.rpartition(".")
    setattr(net.get_submodule(parent), leaf, torch.nn.Identity())
    net = net.train().to(memory_format=torch.channels_last)
    x = torch.from_numpy(images(batch)).to(memory_format=torch.channels_last)
    labels = torch.arange(int(batch)) // 4
    miner, loss = miners.TripletMarginMiner(), losses.TripletMarginLoss()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-5)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            e = net(x)
        e = e.float()
        optimizer.zero_grad()
        loss(e, labels, miner(e, labels)).backward()
        optimizer.step()

    serve(step)


if __name__ == "__main__":
    {"onnxruntime": onnxruntime, "openvino": openvino, "torch": torch}[sys.argv[1]](*sys.argv[2:])
