"""The path of sparse linear classifiers against closed forms, the conditions of an optimum, and scikit-learn."""

import warnings

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.explain.elastic_net import at_effective, elastic_net_path


def planted(count=400, inputs=12, classes=4, seed=0):
    """Inputs of which three a class decide it, and correlated ones that decide nothing."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=generator, dtype=torch.float64)
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    weight = torch.zeros(classes, inputs, dtype=torch.float64)
    for index in range(classes):
        weight[index, [index, (index + 3) % inputs, (index + 5) % inputs]] = 2.0
    noise = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return 3 * x + 1, (x @ weight.t() + noise).argmax(1)


def slopes(head, x, labels):
    """Gradient of the mean cross-entropy in the standardized weights and the bias, by numpy alone."""
    z, y = x.numpy(), labels.numpy()
    logits = z @ head.weight.numpy().T + head.bias.numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    scaled = (z - z.mean(0)) / z.std(0)
    return p.T @ scaled / len(y), p.mean(0), head.weight.numpy() * z.std(0)


def test_two_classes_of_one_input_by_hand():
    # One input of +1 and -1, right with probability q: by symmetry W = (w, -w) and the mean loss is
    # -q log s(2w) - (1-q) log s(-2w), of slope 2 (s(2w) - q); with 2 l |w| the optimum is s(2w) = q - l.
    x = torch.tensor([[1.0], [-1.0]]).repeat(50, 1)
    labels = (x[:, 0] < 0).long()
    wrong = torch.arange(20)
    labels[wrong] = 1 - labels[wrong]
    q = 0.8
    for penalty in (0.25, 0.1, 0.01):
        (head,) = elastic_net_path(x, labels, 2, share=1.0, penalties=[penalty], tolerance=1e-10)
        p = q - penalty
        expected = 0.5 * np.log(p / (1 - p))
        assert head.weight[:, 0].tolist() == pytest.approx([expected, -expected], abs=1e-8)
        assert head.bias.tolist()[0] == pytest.approx(head.bias.tolist()[1], abs=1e-8)
    path = elastic_net_path(x, labels, 2, share=1.0)
    assert path[0].penalty == pytest.approx(q - 0.5)  # the least penalty without weights
    assert path[0].effective == 0
    assert path[1].effective == 1


@pytest.mark.parametrize("share", [1.0, 0.99, 0.5, 0.0])
def test_the_conditions_of_the_optimum_hold(share):
    x, labels = planted()
    penalties = [0.1, 0.02, 0.005]
    for head in elastic_net_path(x, labels, 4, share=share, penalties=penalties, tolerance=1e-9):
        slope, push, weight = slopes(head, x, labels)
        smooth, l1 = slope + head.penalty * (1 - share) * weight, head.penalty * share
        some = weight != 0
        assert np.abs((smooth + l1 * np.sign(weight))[some]).max(initial=0) < 1e-8
        assert np.abs(smooth[~some]).max(initial=0) <= l1 + 1e-8
        assert np.abs(push).max() < 1e-8
        assert head.residual <= 1e-9


def test_it_is_scikit_learns_optimum():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, labels = planted()
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    for head in elastic_net_path(x, labels, 4, share=0.9, penalties=[0.05, 0.01], tolerance=1e-9):
        options = {"solver": "saga", "l1_ratio": 0.9, "C": 1 / (head.penalty * len(x)), "tol": 1e-10}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that its versions name in other ways
            peer = linear_model.LogisticRegression(penalty="elasticnet", max_iter=20_000, **options)
            peer.fit(scaled, labels.numpy())
        assert np.abs(peer.coef_ - (head.weight * head.scale).numpy()).max() < 1e-6
        assert np.abs(peer.predict_proba(scaled) - (x @ head.weight.t() + head.bias).softmax(1).numpy()).max() < 1e-6


def test_the_path_is_sparse_first_and_a_point_does_not_depend_on_it():
    x, labels = planted()
    path = elastic_net_path(x, labels, 4, tolerance=1e-8)
    assert path[0].effective == 0
    assert path[-1].effective > 6
    (alone,) = elastic_net_path(x, labels, 4, penalties=[path[10].penalty], tolerance=1e-8)
    assert torch.allclose(alone.weight, path[10].weight, atol=1e-6)
    few = elastic_net_path(x, labels, 4, effective=3, tolerance=1e-8)
    assert few[-2].effective < 3 <= few[-1].effective
    assert torch.equal(few[-1].weight, path[len(few) - 1].weight)


def test_a_head_of_so_many_effective_concepts_keeps_the_largest_standardized_weights():
    x, labels = planted()
    x[:, 0] *= 100  # whose weight is small for that, and counts as before
    path = elastic_net_path(x, labels, 4)
    head = at_effective(path, 2)
    whole = next(point for point in path if point.effective >= 2)
    assert head.effective == 2
    kept, size = head.weight != 0, (whole.weight * whole.scale).abs()
    assert size[kept].min() >= size[~kept].max()
    assert bool(kept[:, 0].any())
    assert at_effective(path, 100) is None


def test_scales_shifts_and_constants_change_nothing():
    x, labels = planted()
    (head,) = elastic_net_path(x, labels, 4, penalties=[0.01], tolerance=1e-9)
    other = torch.cat([5 * x - 7, torch.full((len(x), 1), 3.0)], 1)
    (moved,) = elastic_net_path(other, labels, 4, penalties=[0.01], tolerance=1e-9)
    assert torch.allclose(other @ moved.weight.t() + moved.bias, x @ head.weight.t() + head.bias, atol=1e-6)
    assert moved.weight[:, -1].abs().max() == 0


def test_what_is_given_beforehand_stays():
    # The logits of the right answer leave nothing to learn; those of nothing leave everything.
    x, labels = planted()
    (head,) = elastic_net_path(x, labels, 4, penalties=[0.01], tolerance=1e-9)
    offset = x @ head.weight.t() + head.bias
    path = elastic_net_path(x, labels, 4, share=0.0, penalties=[1e6], offset=offset)
    assert path[0].weight.abs().max() < 1e-6
    rest = elastic_net_path(x, labels, 4, share=0.99, penalties=[0.01], offset=torch.zeros(len(x), 4), tolerance=1e-9)
    assert torch.allclose(rest[0].weight, head.weight, atol=1e-6)


def test_rare_and_absent_classes():
    x, labels = planted(60)
    labels[labels == 3] = 2
    labels[0] = 3
    path = elastic_net_path(x, labels, 6)
    for head in path:
        assert bool(head.weight.isfinite().all() & head.bias.isfinite().all())
        assert head.residual <= 1e-4


def test_a_share_that_is_none():
    x, labels = planted(30)
    for share in (0.0, 1.5, -0.1):
        with pytest.raises(ConfigError, match=r"^share: "):
            elastic_net_path(x, labels, 4, share=share)
