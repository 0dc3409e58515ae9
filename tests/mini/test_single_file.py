import pytest
import torch
from autoencoder import make_vae
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from networks import make_expert
from single_file import authors_keys

BACK = {"transformer": convert_wan_transformer_to_diffusers, "vae": convert_wan_vae_to_diffusers}


@pytest.fixture(scope="module")
def networks():
    return {"transformer": make_expert(1), "vae": make_vae(base=4)}


@pytest.mark.parametrize("component", BACK)
def test_diffusers_converters_bring_every_tensor_back(networks, component):
    expected = networks[component].state_dict()
    found = BACK[component](authors_keys(component, dict(expected)))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_names_are_those_of_wans_own_code(networks):
    expert = authors_keys("transformer", networks["transformer"].state_dict())
    for name in ("blocks.0.self_attn.norm_q.weight", "blocks.0.norm3.weight", "blocks.5.ffn.2.bias", "head.modulation"):
        assert name in expert
    vae = authors_keys("vae", networks["vae"].state_dict())
    for name in ("conv1.weight", "encoder.downsamples.2.resample.1.weight", "decoder.upsamples.7.time_conv.bias"):
        assert name in vae


def test_a_name_that_the_authors_do_not_have_is_refused():
    with pytest.raises(KeyError):
        authors_keys("vae", {"decoder.something.weight": torch.zeros(1)})
