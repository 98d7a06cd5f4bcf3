"""The rules of LRP in matrix form, as they are written in the papers: slow, float64, one image, loops and einsum."""

import torch


def matrix(function, x):
    """Return the (J, I) weights and the (J,) bias of an affine function of one input, from its Jacobian."""
    flat = x.flatten()

    def call(values):
        return function(values.view(1, *x.shape)).flatten()

    weight = torch.autograd.functional.jacobian(call, flat)
    return weight, call(torch.zeros_like(flat))


def quotient(a, b):
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))


def relevance(rule, x, w, b, r, absorb=True, gamma=0.25, alpha=2.0, epsilon=0.0, low=None, high=None):
    """Return the (I,) relevance of inputs.

    Args:
        rule: "epsilon", "gamma", "alpha_beta", "z_plus", "z_box", "w_square" or "flat".
        x: (I,) inputs.
        w: (J, I).
        b: (J,).
        r: (J,) relevance of the outputs.
        absorb: whether the bias gets its part.
    """
    c = w * x  # (J, I) contributions
    if rule == "epsilon" and not absorb:  # the bias goes to the inputs, by the size of their contributions
        c = c + b[:, None] * quotient(c.abs(), c.abs().sum(1, keepdim=True))
    b = b if absorb else torch.zeros_like(b)
    z = c.sum(1) + b  # what is divided
    up, down = c.clamp(min=0), c.clamp(max=0)
    if rule == "epsilon":
        e = epsilon * z.square().mean().sqrt()
        return (c * quotient(r, z + torch.where(z < 0, -e, e))[:, None]).sum(0)
    if rule == "gamma":
        above = quotient(r, z + gamma * (up.sum(1) + b.clamp(min=0))) * (z > 0)
        below = quotient(r, z + gamma * (down.sum(1) + b.clamp(max=0))) * (z < 0)
        return ((c + gamma * up) * above[:, None] + (c + gamma * down) * below[:, None]).sum(0)
    if rule in ("alpha_beta", "z_plus"):
        alpha = alpha if rule == "alpha_beta" else 1.0
        p, n = up.sum(1) + b.clamp(min=0), down.sum(1) + b.clamp(max=0)
        a = torch.where(n == 0, 1.0, torch.where(p == 0, 0.0, alpha))
        if rule == "z_plus":
            a = torch.where(p == 0, 0.0, 1.0)
        return (up * quotient(a * r, p)[:, None] + down * quotient((1 - a) * r, n)[:, None]).sum(0)
    if rule == "z_box":
        part = c - low * w.clamp(min=0) - high * w.clamp(max=0)
        return (part * quotient(r, part.sum(1))[:, None]).sum(0)
    if rule == "w_square":
        return (w.square() * quotient(r, w.square().sum(1) + b.square())[:, None]).sum(0)
    if rule == "flat":
        used = (w != 0).to(w)  # no weight is 0 by chance
        return (used * quotient(r, used.sum(1))[:, None]).sum(0)
    raise ValueError(rule)


def prototype(relevances, patches, position, prototypes):
    """Return the (L, D) relevance of an image's patches, of (P, k) relevances at (P, k) positions; all are live."""
    result = torch.zeros_like(patches)
    for p in range(position.shape[0]):
        for k in range(position.shape[1]):
            weight = 1 / ((patches[position[p, k]] - prototypes[p]) ** 2 + 1e-12)
            result[position[p, k]] += relevances[p, k] * weight / weight.sum()
    return result
