"""A model as a plain classifier: the same numbers, whoever asks."""

import copy

import torch

from tests.model_makers import make_prototypes


def test_logits_are_those_of_the_model_in_the_precision_of_its_prototypes():
    module = make_prototypes()
    image = torch.rand(3, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(0))
    exact = module(image).logits
    module.network.provenance.precision.fill_(1)
    expected = module(image).logits
    assert not torch.equal(expected.float(), exact)  # bfloat16
    plain = module.logits
    assert torch.equal(plain(image), expected)
    assert [name for name, _ in plain.named_children()] == ["network"]
    other = copy.deepcopy(plain)  # as Quantus does, to make its weights random
    assert torch.equal(other(image), expected)
    torch.nn.init.zeros_(other.network.head.weight)
    assert not torch.equal(other(image), expected)
    assert torch.equal(plain(image), expected)


def test_the_mode_is_that_of_the_network():
    """Logits have a mode of their own, which is the network's; that of the model around it does not matter."""
    module = make_prototypes()
    module.network.provenance.precision.fill_(1)
    image = torch.rand(2, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(0))
    expected = module.eval()(image).logits
    assert torch.equal(module.train().logits.eval()(image), expected)
