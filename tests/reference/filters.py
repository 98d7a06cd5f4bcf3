"""How often filters cover parts (Zhang et al. 2018), by torch's own upsampling, a filter and a part at a time."""

import torch


def interpretability(maps, masks, own, thresholds, least):
    """Of each filter the share of the images of its class in which it covers its best part; None without evidence."""
    large = torch.nn.functional.interpolate(maps.double(), masks.shape[2:], mode="bilinear")
    found = []
    for u in range(maps.shape[1]):
        shares = []
        for p in range(masks.shape[1]):
            images = [i for i in range(len(large)) if own[i, u] and masks[i, p].any()]
            inside = [large[i, u] > thresholds[u] for i in images]
            both = [float((a & masks[i, p]).sum()) for a, i in zip(inside, images, strict=True)]
            either = [float((a | masks[i, p]).sum()) for a, i in zip(inside, images, strict=True)]
            covered = [x / y > least for x, y in zip(both, either, strict=True)]
            shares += [sum(covered) / len(covered)] if covered else []
        found.append(max(shares) if shares else None)
    return found
