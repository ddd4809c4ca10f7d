#!/usr/bin/env python3
"""Make classifier.onnx: an untrained MLP over 16 numbers with a classifier's head, exported by PyTorch.

Run with a Python that has torch (tests/requirements.txt); the result is committed beside this file.
"""
import pathlib

import torch
from torch import nn

torch.manual_seed(7)
model = nn.Sequential()
model.add_module('hidden', nn.Linear(16, 32))
model.add_module('relu', nn.ReLU())
model.add_module('feature', nn.Linear(32, 16))
model.add_module('relu2', nn.ReLU())
model.add_module('classifier', nn.Linear(16, 4))
target = pathlib.Path(__file__).with_name('classifier.onnx')
torch.onnx.export(model.eval(), (torch.zeros(1, 16),), str(target), input_names=['vector'], output_names=['logits'],
                  dynamic_axes={'vector': {0: 'N'}, 'logits': {0: 'N'}}, opset_version=17, dynamo=False)
