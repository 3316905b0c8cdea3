"""Harmonics, texture, U-Net, the model of all three, and the learning rates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from deferred.baselines import bilinear_texels
from deferred.model.harmonics import spherical_harmonics
from deferred.model.renderer import Form, new_renderer, place_colours, restore
from deferred.model.texture import LaplacianTexture
from deferred.model.unet import ResizeConv, UNet
from deferred.options import make_options, numbers
from deferred.schedule import REACH, make_optimiser, rate_factor, reach, set_rates

FORM = Form(texture_dim=13, textureh=12, texturew=24, use_pyramid=True, view_direction=True, unet_width=2)


def gram(harmonics) -> np.ndarray:
    """(9, 9) integrals of products over the sphere: Gauss-Legendre in z times equal steps of azimuth, exact here."""
    z, weights = np.polynomial.legendre.leggauss(8)
    azimuth = 2 * np.pi * np.arange(16) / 16
    across = np.sqrt(1 - z**2)
    direction = np.stack([np.outer(across, np.cos(azimuth)), np.outer(across, np.sin(azimuth)),
                          np.repeat(z[:, None], 16, axis=1)], axis=2)  # fmt: skip
    values = harmonics(torch.from_numpy(direction)).numpy().reshape(-1, 9)
    return np.einsum("ni,nj,n->ij", values, values, np.repeat(weights, 16) * 2 * np.pi / 16)


def test_harmonics_are_orthonormal():
    assert np.abs(gram(spherical_harmonics) - np.eye(9)).max() < 1e-12


def test_the_originals_last_term_is_not():
    def wrong(direction):
        values = spherical_harmonics(direction).clone()
        values[..., 8] = 2 * 0.5462742 * (direction[..., 0] ** 2 - direction[..., 2] ** 2)
        return values

    found = gram(wrong)
    assert found[8, 8] > 3.9 and np.abs(found - np.eye(9)).max() > 1


def test_texture_against_written_out_bilinear_lookups():
    texture = LaplacianTexture(5, 12, 24)
    generator = torch.Generator().manual_seed(0)
    for level in texture.levels:
        level.data.normal_(generator=generator)
    assert [tuple(level.shape) for level in texture.levels] == [(5, 12, 24), (5, 6, 12), (5, 3, 6), (5, 1, 3)]
    uv = torch.rand(2, 3, 7, 2, generator=generator)
    uv[0, 0, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])  # beyond the outermost centres
    expected = torch.zeros(42, 5)
    for level in texture.levels:
        texels, weights = bilinear_texels(uv.view(-1, 2), *level.shape[1:])
        expected += (level.data.flatten(1).t()[texels] * weights[..., None]).sum(dim=1)
    torch.testing.assert_close(texture(uv).permute(0, 2, 3, 1).reshape(42, 5), expected, rtol=1e-4, atol=1e-5)


def test_a_wide_texture_is_not_transposed():
    """A texture of 8 x 2 texels seen as it is: u picks the column, v the row."""
    texture = LaplacianTexture(3, 2, 8, pyramid=False)
    picture = torch.arange(48.0).view(3, 2, 8)
    texture.levels[0].data.copy_(picture)
    v, u = torch.meshgrid((torch.arange(2) + 0.5) / 2, (torch.arange(8) + 0.5) / 8, indexing="ij")
    assert torch.allclose(texture(torch.stack([u, v], dim=-1)[None])[0], picture, atol=1e-4)
    model = new_renderer(dataclasses.replace(FORM, textureh=2, texturew=8), 0)
    assert model.texture_image().shape == (2, 8, 3)


def test_gradient_reaches_every_level_and_only_the_texels_seen():
    texture = LaplacianTexture(3, 16, 16)
    uv = torch.full((4, 1, 1, 2), 0.03)
    texture(uv).sum().backward()
    for level in texture.levels:
        assert (
            float(level.grad.sum()) == pytest.approx(4 * 3, rel=1e-5) and float(level.grad[:, -1, -1].abs().sum()) == 0
        )


def test_initial_values():
    model = new_renderer(Form(16, 64, 64, True, True, 2), seed=3)
    finest, *coarse = model.texture.levels
    assert float(finest.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not any(bool(level.any()) for level in coarse)
    again, other = new_renderer(model.form, 3).state_dict(), new_renderer(model.form, 4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert not torch.equal(other["texture.levels.0"], again["texture.levels.0"])


def test_unet_has_the_originals_layers():
    with torch.device("meta"):
        net, resized = UNet(16, 64), UNet(16, 64, "resize")
    assert [tuple(layer.weight.shape[:2]) for layer in net.down] == [
        (64, 16),
        (128, 64),
        (256, 128),
        (512, 256),
        (512, 512),
    ]
    assert [tuple(layer.weight.shape[:2]) for layer in net.up] == [
        (512, 512),
        (1024, 512),
        (768, 256),
        (384, 128),
        (192, 3),
    ]
    assert sum(p.numel() for p in net.parameters()) == 23_490_371
    assert sum(p.numel() for p in resized.parameters()) == 16_261_427


@torch.no_grad()
def test_resize_convolution_is_that_and_makes_no_checkerboard():
    """A nearest-neighbour doubling and a 3 x 3 convolution; what is constant stays constant, unlike transposed."""
    resize, transposed = ResizeConv(5, 3), torch.nn.ConvTranspose2d(5, 3, 4, stride=2, padding=1)
    x = torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(0))
    kernel = resize.weight.transpose(0, 1).flip(2, 3)
    expected = functional.conv2d(functional.interpolate(x, scale_factor=2), kernel, resize.bias, padding=1)
    torch.testing.assert_close(resize(x), expected)
    flat, board = (layer(torch.ones(1, 5, 8, 8))[..., 2:-2, 2:-2] for layer in (resize, transposed))
    assert float((flat - flat[..., :1, :1]).abs().max()) < 1e-5 < 0.01 < float((board - board[..., :1, :1]).abs().max())


@pytest.mark.parametrize("upsampling", ["resize", "transposed"])
@pytest.mark.parametrize("size", [(64, 64), (100, 64), (64, 100), (128, 40), (270, 33), (511, 100), (1, 3), (32, 65)])
@torch.no_grad()
def test_unet_returns_the_size_it_gets(size, upsampling):
    net = UNet(4, 1, upsampling)
    image = net(torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0)))
    assert image.shape == (1, 3, *size) and float(image.min()) >= 0 and float(image.max()) <= 1 and image.std() > 0


@pytest.mark.parametrize("size", [64, 100, 128, 270, 511])
@torch.no_grad()
def test_model_returns_the_size_it_gets(size):
    model = new_renderer(dataclasses.replace(FORM, unet_width=1), 0)
    mask = torch.ones(1, size, size)
    mask[:, : size // 2] = 0
    colour, image = model(torch.rand(1, size, size, 2), torch.tensor([0.0, 0, 1]).view(1, 1, 1, 3), mask)
    assert colour.shape == image.shape == (1, 3, size, size)
    assert not image[:, :, : size // 2].any() and bool((image[:, :, size // 2 :] > 0).all())


@torch.no_grad()
def test_directions_multiply_their_channels_only():
    model = new_renderer(FORM, 0)
    generator = torch.Generator().manual_seed(0)
    for level in model.texture.levels:
        level.normal_(generator=generator)
    uv, mask = torch.rand(2, 8, 6, 2, generator=generator), torch.ones(2, 8, 6)
    seen = []
    model.unet.forward = lambda features: seen.append(features) or features[:, :3]
    direction = torch.tensor([[0.0, 0, 1], [0.6, 0, 0.8]]).view(2, 1, 1, 3)
    model(uv, direction, mask)
    model(uv, direction.expand(2, 8, 6, 3), mask)
    plain = model.texture(uv)
    harmonics = spherical_harmonics(direction[:, 0, 0])
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0][:, :3], plain[:, :3]) and torch.equal(seen[0][:, 12:], plain[:, 12:])
    torch.testing.assert_close(seen[0][:, 3:12], plain[:, 3:12] * harmonics[:, :, None, None])


def bright_target() -> torch.Tensor:
    """(1, 3, 32, 32) of mean 0.7 with waves."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return torch.stack([0.7 + 0.15 * torch.sin(0.4 * x + i) * torch.cos(0.3 * y) for i in range(3)])[None]


def test_a_bright_frame_can_be_learned():
    """Over the whole frame and of mean 0.7: with an instance norm before the output it could not, see below."""
    target = bright_target()
    model = new_renderer(Form(12, 32, 32, True, False, 4), 0)
    v, u = torch.meshgrid((torch.arange(32) + 0.5) / 32, (torch.arange(32) + 0.5) / 32, indexing="ij")
    batch = torch.stack([u, v], dim=-1)[None], torch.tensor([0.0, 0, 1]).view(1, 1, 1, 3), torch.ones(1, 32, 32)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(80):
        optimiser.zero_grad()
        (model(*batch)[1] - target).abs().mean().backward()
        optimiser.step()
    with torch.no_grad():
        psnr = -10 * torch.log10((model(*batch)[1] - target).square().mean())
    assert psnr > 20, psnr  # 26 seen


def test_a_norm_before_the_output_cannot_be_bright():
    """The control: whatever the values before it, after the norm a sigmoid does not get to the bright target."""
    target = bright_target()
    values = torch.logit(target).clone().requires_grad_()
    optimiser = torch.optim.Adam([values], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (torch.sigmoid(functional.instance_norm(values)) - target).abs().mean().backward()
        optimiser.step()
    with torch.no_grad():
        psnr = -10 * torch.log10((torch.sigmoid(functional.instance_norm(values)) - target).square().mean())
    assert psnr < 18, psnr


def test_state_is_restored_and_sizes_are_checked():
    model = new_renderer(FORM, 0)
    state = model.state_dict()
    again = restore(FORM, state)
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    for change in ({"textureh": 16384, "texturew": 16384}, {"unet_width": 3}, {"texture_dim": 12}):
        with pytest.raises(RuntimeError):
            restore(dataclasses.replace(FORM, **change), state)
    with pytest.raises(ValueError, match="finite"):
        restore(FORM, {**state, "texture.levels.0": torch.full_like(state["texture.levels.0"], float("nan"))})


@torch.no_grad()
def test_colours_are_placed_and_harmonics_come_through():
    given = new_renderer(Form(3, 12, 24, True, False, 0), 1)
    model = new_renderer(FORM, 0)
    place_colours(model, given.texture, views=True)
    uv = torch.rand(1, 5, 5, 2)
    features = model.texture(uv)
    assert torch.equal(features[:, :3], given.texture(uv))
    assert torch.allclose(features[:, 3:12], torch.ones(1)) and not features[:, 12:].any()
    before = new_renderer(FORM, 0)
    place_colours(before, given.texture, views=False)
    assert torch.equal(before.texture.levels[0][3:], new_renderer(FORM, 0).texture.levels[0][3:])


# --- learning rates ------------------------------------------------------------------------------------------------


def test_schedules():
    expected = {
        "train": {1: 0.2, 4: 0.8, 5: 1, 6: 1, 49: 1, 50: 0.1, 99: 0.1, 100: 0.01, 5000: 0.01},
        "train_texture": {1: 1 / 3, 3: 1, 4: 1, 5: 0.1, 9: 0.1, 10: 0.01, 50: 0.01},
        "train_unet": {1: 1 / 3, 2: 2 / 3, 4: 1, 9: 1, 10: 0.3, 49: 0.3, 50: 0.1},
    }
    for script, factors in expected.items():
        assert {epoch: pytest.approx(rate_factor(script, epoch)) for epoch in factors} == factors


def test_groups_keep_their_proportions():
    given = {"lr": 0.02, "texturew": 24, "textureh": 12, "texture_dim": 13, "unet_width": 2}
    options = make_options("train", {**given, "l2": "0.01, 0.001, 0.0001, 0"})
    model = new_renderer(FORM, 0)
    optimiser = make_optimiser("train", model, options)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.01, 0.001, 0.0001, 0, 0]
    for factor in (1.0, 0.1, 0.2):
        assert set_rates(optimiser, factor) == pytest.approx({"texture": 0.02 * factor, "unet": 0.002 * factor})
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(
            [0.02 * factor] * 4 + [0.002 * factor]
        )
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(model.parameters()))


def test_groups_of_the_other_commands():
    texture = new_renderer(Form(3, 12, 24, False, False, 0), 0)
    made = make_options("train_texture", {"lr": 1e-3, "l2": "1, 1, 1, 0"})
    (group,) = make_optimiser("train_texture", texture, made).param_groups
    assert group["weight_decay"] == 0 and group["lr"] == 1e-3  # the only level is the coarsest
    made = make_options("train_unet", {"lr": 1e-3})
    (group,) = make_optimiser("train_unet", new_renderer(FORM, 0), made).param_groups
    assert group["name"] == "unet" and group["lr"] == 1e-3


@pytest.mark.parametrize(
    ("script", "given"),
    [
        ("train", {"texture_dim": 11}), ("train", {"l2": "0, 0"}), ("train", {"l2": "0, 0, -1, 0"}),
        ("train", {"betas": "0.9, 1"}), ("train", {"batch": 0}), ("train_texture", {"unet_width": 4}),
        ("train_unet", {"texturew": 4}), ("render", {"out_mode": "gif"}),
    ],
)  # fmt: skip
def test_bad_options(script, given, refused):
    with refused(f"--{next(iter(given))}"):
        make_options(script, given)


def test_numbers():
    assert numbers("0.5,0.999", "--betas", 2, below=1.0) == (0.5, 0.999)


def test_how_far_a_texture_can_move():
    """The original's flags on 120 frames, too little; those of the README; no more epochs than there are."""
    little = reach("train_texture", 1e-3, 10, 50, 4)
    assert little == pytest.approx(0.001 * 10 * 4 * (2 + 1 + 0.5 + 0.41)) and little < REACH
    assert reach("train_texture", 0.01, 30, 12, 4) > REACH < reach("train", 0.01, 30, 30, 4)
    assert reach("train", 1.0, 1, 3, 1) == pytest.approx((1 + 2 + 3) / 5)
    assert reach("train", 1.0, 1, 2.5, 1) == pytest.approx((1 + 2 + 1.5) / 5)
