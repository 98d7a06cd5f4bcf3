"""The concept losses against the published formulas in a loop."""

import pytest
import torch
from torch.nn import functional as F

from ibd.models.cbm import losses
from ibd.models.cbm.losses import concept_loss, imbalance_ratio, joint_loss
from ibd.types import Batch
from tests.model_makers import make_module, random_concepts
from tests.reference import concepts as reference

WING = [[0, 1, 2]]


def case(unknown=0.0, count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return logits, random_concepts(count, seed=seed, unknown=unknown), torch.rand(6, generator=generator) * 8


@pytest.mark.parametrize("groups", [[], WING])
@pytest.mark.parametrize("unknown", [0.0, 0.4])
@pytest.mark.parametrize("imbalance", ["none", "concept", "pos_weight"])
def test_concept_loss_is_the_loop(imbalance, unknown, groups):
    logits, concepts, ratio = case(unknown)
    expected = reference.concept_loss(logits, concepts, ratio, imbalance, groups)
    assert concept_loss(logits, concepts, ratio, imbalance, groups).item() == pytest.approx(expected, rel=1e-6)


def test_concept_loss_where_all_is_known_is_the_published_sum():
    logits, concepts, ratio = case()
    total = sum(F.binary_cross_entropy_with_logits(logits[:, j], concepts[:, j].double()) for j in range(6))
    torch.testing.assert_close(concept_loss(logits, concepts, ratio), total)


def test_published_weight_turns_up_both_classes_and_pos_weight_only_one():
    """Notes section 2.1, measured on the published code: ratio 9, logit 0."""
    ratio, zero = torch.tensor([9.0]), torch.zeros(1, 1)
    found = [
        [float(concept_loss(zero, torch.tensor([[c]]), ratio, imbalance)) for c in (1.0, 0.0)]
        for imbalance in ("concept", "pos_weight")
    ]
    assert found[0] == pytest.approx([6.238, 6.238], abs=1e-3)
    assert found[1] == pytest.approx([6.238, 0.693], abs=1e-3)


def test_soft_targets_are_taken_as_they_are():
    logits = torch.tensor([[0.3]])
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.75]]))
    torch.testing.assert_close(concept_loss(logits, torch.tensor([[0.75]]), torch.ones(1)), expected)


@pytest.mark.parametrize("groups", [[], WING])
def test_all_unknown_is_zero_without_gradient(groups):
    logits = torch.randn(4, 6, requires_grad=True)
    loss = concept_loss(logits, torch.full((4, 6), torch.nan), torch.ones(6), "concept", groups)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.count_nonzero() == 0


def test_unknown_entries_get_no_gradient_and_change_nothing():
    logits, concepts, ratio = case(0.4)
    logits.requires_grad_()
    concept_loss(logits, concepts, ratio, "concept").backward()
    assert torch.equal(logits.grad == 0, concepts.isnan())
    other = torch.where(concepts.isnan(), logits.detach() + 5, logits.detach())
    assert concept_loss(other, concepts, ratio) == concept_loss(logits, concepts, ratio)


def test_softmax_group_knows_all_from_a_one_and_nothing_from_zeros_alone():
    logits, ratio = torch.randn(1, 6), torch.ones(6)
    nan = torch.nan

    def loss(*wing):
        return concept_loss(logits, torch.tensor([[*wing, nan, nan, nan]]), ratio, softmax_groups=WING).item()

    assert loss(0.0, 1.0, nan) == loss(nan, 1.0, nan) == loss(0.0, 1.0, 0.0) > 0
    assert loss(0.0, 0.0, nan) == 0
    none = -torch.cat([logits[0, :3], torch.zeros(1)]).log_softmax(0)[3]  # nothing of the group is there
    assert loss(0.0, 0.0, 0.0) == pytest.approx(none.item() * 6 / 3)


@pytest.mark.parametrize("groups", [[], WING])
@pytest.mark.parametrize("imbalance", ["none", "concept", "pos_weight"])
def test_gradcheck(imbalance, groups):
    logits, concepts, ratio = case(0.3, count=3)
    function = lambda x: concept_loss(x, concepts, ratio.double(), imbalance, groups)  # noqa: E731
    assert torch.autograd.gradcheck(function, (logits.requires_grad_(),))


def test_stays_in_float32_under_autocast_and_for_half_precision_logits():
    logits, concepts, ratio = case(0.2)
    exact = concept_loss(logits.bfloat16().float(), concepts, ratio, "pos_weight", WING)
    with torch.autocast("cpu", torch.bfloat16):
        found = concept_loss(logits.bfloat16(), concepts, ratio, "pos_weight", WING)
    assert found.dtype == torch.float32
    assert found == exact


def test_the_average_over_processes_is_the_loss_of_all_images(monkeypatch):
    """Two processes with unequal numbers of known pairs, played one after the other."""
    logits, concepts, ratio = case(0.5, count=8)
    counts = [(~concepts[part].isnan()).sum() for part in (slice(0, 4), slice(4, 8))]
    assert counts[0] != counts[1]
    monkeypatch.setattr(losses, "world_size", lambda: 2)
    monkeypatch.setattr(losses, "sum_over_processes", lambda value: sum(counts).float())
    shares = [concept_loss(logits[part], concepts[part], ratio, together=True) for part in (slice(0, 4), slice(4, 8))]
    monkeypatch.undo()
    torch.testing.assert_close(sum(shares) / 2, concept_loss(logits, concepts, ratio))


def test_evaluation_waits_for_no_other_process(monkeypatch):
    """In validation one process may have nothing but padding in its last batch, and asks for nothing."""
    monkeypatch.setattr(losses, "sum_over_processes", lambda value: pytest.fail("a collective"))
    module = make_module()
    images = torch.rand(2, 3, 16, 16)
    batch = Batch(images, torch.tensor([0, 1]), random_concepts(2), torch.arange(2))
    module.losses(module(images), batch)


@pytest.mark.parametrize("unknown", [0.0, 0.5])
def test_imbalance_ratio_is_the_published_one(unknown):
    concepts = random_concepts(30, unknown=unknown)
    concepts[:, 4], concepts[:, 5] = 0.0, 1.0  # never and always there: weight 1, not infinity and not 0
    ratio = imbalance_ratio(concepts)
    torch.testing.assert_close(ratio, torch.tensor(reference.imbalance_ratio(concepts)))
    assert ratio[4:].tolist() == [1, 1]
    assert imbalance_ratio(torch.full((3, 2), torch.nan)).tolist() == [1, 1]
    soft = torch.tensor([[0.5], [0.5], [1.0], [0.25], [0.0]])  # 2.25 presences and 2.75 absences
    assert imbalance_ratio(soft).item() == pytest.approx(2.75 / 2.25)


@pytest.mark.parametrize("normalize", [True, False])
def test_joint_loss_is_the_published_one(normalize):
    losses = [0.3, 1.7, 0.2, 0.9]
    found = joint_loss(torch.tensor(2.1), torch.tensor(sum(losses)), 0.01, 4, normalize)
    assert found.item() == pytest.approx(reference.joint_loss(2.1, losses, 0.01, normalize))
