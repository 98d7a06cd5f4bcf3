"""Networks to explain: batch normalization with statistics that are not the trivial ones, biases of any size."""

import torch
from torch import nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def perturb(model, seed=0, biases=True):
    """Return the model, its normalizations and biases drawn at random; without biases every one of them is 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, NORMS):
                draw(module.running_mean, -0.1 * biases, 0.1 * biases)
                draw(module.running_var, 0.5, 1.5)
                draw(module.weight, 0.5, 1.5)
                module.weight[::5] *= -1
            bias = getattr(module, "bias", None)
            if isinstance(bias, torch.Tensor):
                draw(bias, -0.1 * biases, 0.1 * biases)
    return model.eval()
