"""Relevance and rollout of `tests.attention_makers.TinyViT`, one operation at a time, in float64, without autograd."""

import math

import numpy as np
import torch


def array(tensor):
    return tensor.detach().double().numpy()


def _divide(a, b):
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


def linear_back(x, weight, y, relevance):
    """Return relevance of x (N, I) of ``y = x W^T + b``: ``R_i = x_i sum_o w_oi R_o / y_o``."""
    back = np.zeros_like(x)
    for n in range(len(x)):
        for i in range(x.shape[1]):
            for o in range(len(weight)):
                back[n, i] += x[n, i] * weight[o, i] * _divide(relevance[n, o], y[n, o])
    return back


def norm(x, layer):
    """Return the layer normalization of (N, D), and the linear map (D, D) that it is of each token."""
    width = x.shape[1]
    maps = []
    for token in x:
        center = np.eye(width) - 1 / width
        maps.append(center / math.sqrt(token.var() + layer.eps) * array(layer.weight)[:, None])
    bias = 0 if layer.bias is None else array(layer.bias)
    return np.stack([m @ token for m, token in zip(maps, x, strict=True)]) + bias, maps


def norm_back(x, maps, y, relevance):
    rows = [linear_back(x[n : n + 1], maps[n], y[n : n + 1], relevance[n : n + 1]) for n in range(len(x))]
    return np.concatenate(rows)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Attended:
    """One attention: forward, and relevance back, of the tokens (N, D)."""

    def __init__(self, x, module):
        inner = module.inner
        bias = np.zeros(3 * x.shape[1]) if inner.in_proj_bias is None else array(inner.in_proj_bias)
        self.x, self.weight, self.heads = x, array(inner.in_proj_weight), module.heads
        self.qkv = x @ self.weight.T + bias
        width = x.shape[1] // self.heads
        self.parts = self.qkv.reshape(len(x), 3, self.heads, width)
        self.scale = width**-0.5
        q, k, v = (self.parts[:, i].transpose(1, 0, 2) for i in range(3))
        self.scores = np.einsum("hid,hjd->hij", q, k) * self.scale
        self.weights = softmax(self.scores)
        self.mixed = np.einsum("hij,hjd->hid", self.weights, v)
        self.joined = self.mixed.transpose(1, 0, 2).reshape(len(x), -1)
        self.out = array(inner.out_proj.weight)
        self.y = self.joined @ self.out.T + (0 if inner.out_proj.bias is None else array(inner.out_proj.bias))

    def back(self, relevance, constant):
        joined = linear_back(self.joined, self.out, self.y, relevance)
        count, heads, width = len(self.x), self.heads, self.mixed.shape[2]
        given = np.zeros_like(self.parts)
        for h in range(heads):
            head = joined.reshape(count, heads, width)[:, h]
            to_weights = np.zeros((count, count))
            for i in range(count):
                for j in range(count):
                    for d in range(width):
                        part = self.weights[h, i, j] * self.parts[j, 2, h, d] * head[i, d] / self.mixed[h, i, d]
                        given[j, 2, h, d] += part if constant else part / 2
                        to_weights[i, j] += 0 if constant else part / 2
            for i in range(count):
                total = to_weights[i].sum()
                for j in range(count):
                    score = self.scores[h, i, j]
                    moved = score * (to_weights[i, j] - self.weights[h, i, j] * total)
                    for d in range(width):
                        q, k = self.parts[i, 0, h, d], self.parts[j, 1, h, d]
                        share = q * k * self.scale / score * moved
                        given[i, 0, h, d] += share / 2
                        given[j, 1, h, d] += share / 2
        return linear_back(self.x, self.weight, self.qkv, given.reshape(count, -1))


def _gelu(x):
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def relevance(model, image, index, constant):
    """Return the (H, W) relevance of a logit of one image (3, H, W), LRP-0 for all linear layers."""
    patch = array(model.patches.weight)
    height, width = image.shape[1] // 4, image.shape[2] // 4
    pixels = array(image).reshape(3, height, 4, width, 4).transpose(1, 3, 0, 2, 4).reshape(height * width, -1)
    flat = patch.reshape(len(patch), -1)
    embedded = pixels @ flat.T + (0 if model.patches.bias is None else array(model.patches.bias))
    extra = array(model.extra)[0]
    placed = np.concatenate([extra, embedded]) + array(model.places)[0]
    x, steps = placed, []
    for block in model.blocks:
        normed, maps = norm(x, block.norm1)
        attended = Attended(normed, block.attention)
        middle = x + attended.y
        normed2, maps2 = norm(middle, block.norm2)
        hidden = normed2 @ array(block.mlp[0].weight).T + _bias(block.mlp[0])
        active = _gelu(hidden)
        y = active @ array(block.mlp[2].weight).T + _bias(block.mlp[2])
        steps.append((block, x, normed, maps, attended, middle, normed2, maps2, hidden, active, y))
        x = middle + y
    normed, maps = norm(x, model.norm)
    count = len(extra)
    read = normed[count:].mean(0, keepdims=True) if model.pooled else normed[:1]
    logits = read @ array(model.head.weight).T + _bias(model.head)
    end = np.zeros_like(logits)
    end[0, index] = logits[0, index]
    back = linear_back(read, array(model.head.weight), logits, end)
    r = np.zeros_like(normed)
    if model.pooled:
        r[count:] = normed[count:] / (len(normed) - count) * _divide(back, read)
    else:
        r[:1] = back
    r = norm_back(x, maps, normed, r)
    for block, x0, normed, maps, attended, middle, normed2, maps2, hidden, active, y in reversed(steps):
        after = middle + y
        inner = linear_back(active, array(block.mlp[2].weight), y, r * _divide(y, after))
        inner = linear_back(normed2, array(block.mlp[0].weight), hidden, inner)  # GELU passes it on
        r = r * _divide(middle, after) + norm_back(middle, maps2, normed2, inner)
        inner = attended.back(r * _divide(attended.y, middle), constant)
        r = r * _divide(x0, middle) + norm_back(x0, maps, normed, inner)
    first = r[count:] * _divide(embedded, placed[count:])
    per_patch = linear_back(pixels, flat, embedded, first)
    shaped = per_patch.reshape(height, width, 3, 4, 4).sum(2).transpose(0, 2, 1, 3)
    return logits[0], shaped.reshape(height * 4, width * 4)


def _bias(layer):
    return 0 if layer.bias is None else array(layer.bias)


def attentions(model, image):
    """Return the (heads, N, N) weights of each layer, of one image (3, H, W)."""
    x, found = model.tokens(image[None])[0].detach().numpy(), []
    for block in model.blocks:
        attended = Attended(norm(x, block.norm1)[0], block.attention)
        found.append(attended.weights)
        x = block(torch.from_numpy(x)[None])[0].detach().numpy()
    return found


def rollout(weights, rows):
    """Return the (N,) mean of some rows of the product of ``(A + I) / 2``, whose rows add up to 1."""
    rolled = np.eye(weights[0].shape[1])
    for weight in weights:
        layer = 0.5 * weight.mean(0) + 0.5 * np.eye(len(rolled))
        rolled = layer @ rolled
    return rolled[rows].mean(0)


def weighted_by_gradient(model, image, index, weights, rows, step=1e-5):
    """Return the (N,) rows of ``R + mean relu(G A) R``, less I, gradients G by differences."""
    relevance = np.eye(weights[0].shape[1])
    for layer, weight in enumerate(weights):
        gradient = np.zeros_like(weight)
        for at in np.ndindex(weight.shape):
            sides = [_score_with(model, image, index, layer, at, sign * step) for sign in (1, -1)]
            gradient[at] = (sides[0] - sides[1]) / (2 * step)
        relevance = relevance + np.maximum(gradient * weight, 0).mean(0) @ relevance
    return (relevance - np.eye(len(relevance)))[rows].mean(0)


def _score_with(model, image, index, layer, at, change):
    """Return a logit where one weight of one layer is changed."""
    x = model.tokens(image[None])[0].detach().numpy()
    for number, block in enumerate(model.blocks):
        attended = Attended(norm(x, block.norm1)[0], block.attention)
        y = attended.y
        if number == layer:
            weights = attended.weights.copy()
            weights[at] += change
            v = attended.parts[:, 2].transpose(1, 0, 2)
            joined = np.einsum("hij,hjd->hid", weights, v).transpose(1, 0, 2).reshape(len(x), -1)
            y = joined @ attended.out.T + (
                0 if block.attention.inner.out_proj.bias is None else array(block.attention.inner.out_proj.bias)
            )
        middle = x + y
        normed = norm(middle, block.norm2)[0]
        hidden = _gelu(normed @ array(block.mlp[0].weight).T + _bias(block.mlp[0]))
        x = middle + hidden @ array(block.mlp[2].weight).T + _bias(block.mlp[2])
    normed = norm(x, model.norm)[0]
    read = normed[model.extra.shape[1] :].mean(0) if model.pooled else normed[0]
    return (read @ array(model.head.weight).T + _bias(model.head))[index]
