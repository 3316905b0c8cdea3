"""NeuroPBR's networks, losses and metrics against plain references."""

import math
import urllib.error

import numpy as np
import pytest
import torch

from common.errors import UserError
from neuropbr.losses.losses import DistillationLoss, GANLoss, HybridLoss, angles, ssim
from neuropbr.models.decoder import PBRDecoder, sub_pixel_conv, super_resolution
from neuropbr.models.discriminators import PatchDiscriminator
from neuropbr.models.encoders import UNetEncoder, adapt_stem, build_encoder
from neuropbr.models.fusion import Block, CrossViewTransformer, LargeKernelFusion
from neuropbr.models.generator import MultiViewPBRGenerator
from neuropbr.train_config import LossConfig, ModelConfig, apply_overrides, finalize, load_config
from neuropbr.utils.maps import MAPS, unit
from neuropbr.utils.metrics import MapMetrics
from tests.support import neuropbr_tools as tools


def small(**more):
    config = load_config("default")
    apply_overrides(config, tools.sets(**more)[1::2])
    return finalize(config)


def maps(batch=2, size=24, seed=0):
    random = torch.Generator().manual_seed(seed)
    values = {name: torch.rand(batch, channels, size, size, generator=random) for name, channels in MAPS.items()}
    return {**values, "normal": unit(values["normal"] * 2 - 1, 1)}


# --- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder, more", [
    ("unet", {}), ("unet", {"model__encoder_stride": 2}), ("unet", {"model__use_transformer": False}),
    ("resnet", {"model__encoder_backbone": "resnet18", "model__encoder_stride": 2}),
    ("resnet", {"model__encoder_backbone": "resnet50", "data__image_size": 32, "data__output_size": 64}),
    ("mobilenetv3", {"model__encoder_backbone": "mobilenet_v3_small", "data__output_size": 128}),
    ("mobilenetv3", {"model__encoder_backbone": "mobilenet_v3_large", "model__bottleneck": "plk",
                     "model__encoder_stride": 2, "data__output_size": 128}),
])  # fmt: skip
def test_outputs_have_the_promised_size_and_ranges(encoder, more):
    config = small(model__encoder_type=encoder, **more)
    model = MultiViewPBRGenerator(config)
    assert isinstance(model.fusion, LargeKernelFusion) == (config.model.bottleneck == "plk")
    out = model(torch.randn(1, 3, 3, *config.data.image_size))
    for name, channels in MAPS.items():
        assert out[name].shape == (1, channels, *config.data.output_size)
    assert torch.allclose(out["normal"].norm(dim=1), torch.ones(1, *config.data.output_size), atol=1e-5)
    assert all(out[name].min() >= 0 and out[name].max() <= 1 for name in ("albedo", "roughness", "metallic"))
    sum(values.mean() for values in out.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("height, width", [(40, 72), (33, 50)])
def test_odd_and_oblong_sizes(height, width):
    model = MultiViewPBRGenerator(small(model__encoder_stride=2)).eval()
    assert model(torch.randn(1, 3, 3, height, width))["albedo"].shape[-2:] == (height, width)


def test_every_view_counts_and_their_order_too():
    model = MultiViewPBRGenerator(small()).eval()
    views = torch.randn(1, 3, 3, 64, 64)
    before = model(views)["albedo"]
    for view in range(3):
        changed = views.clone()
        changed[:, view] += 1
        assert (model(changed)["albedo"] - before).abs().max() > 1e-5
    assert (model(views.flip(1))["albedo"] - before).abs().max() > 1e-5


def test_a_block_is_attention_as_it_is_written():
    torch.manual_seed(3)
    block = Block(8, 2, 2.0, 0.0, 0.0, 0.0).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = block.qkv(block.norm1(x)).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    heads = []
    for batch in range(2):
        rows = [torch.softmax(q[batch, h] @ k[batch, h].T / math.sqrt(4), -1) @ v[batch, h] for h in range(2)]
        heads.append(torch.cat(rows, -1))
    y = x + block.proj(torch.stack(heads))
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)))


def test_attention_crosses_views_and_places():
    fusion = CrossViewTransformer(16, 1, 2, 2, 0.0, 0.0, 0.0).eval()
    latents = torch.randn(1, 3, 16, 4, 4, requires_grad=True)
    fusion(latents)[0, 3, 0, 0].backward()  # not their sum: a layer norm makes that the same for all
    assert (latents.grad[0, 2, :, 3, 3].abs() > 0).any()


def test_the_large_kernel_is_normalised_and_shared():
    fusion = LargeKernelFusion(6, 32, 3, 17).eval()
    assert fusion.kernel.shape == (32, 1, 17, 17)
    with torch.no_grad():
        fusion.kernel *= 5
        first = fusion(torch.randn(1, 3, 6, 8, 8, generator=torch.Generator().manual_seed(1)))
        fusion.kernel *= 3
        again = fusion(torch.randn(1, 3, 6, 8, 8, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(first, again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_super_resolution(scale):
    assert super_resolution(scale)(torch.randn(1, 64, 4, 6)).shape == (1, 64, 4 * scale, 6 * scale)


def test_sub_pixels_start_without_a_checkerboard_and_can_learn_one():
    layer, x = sub_pixel_conv(8, 4), torch.randn(2, 8, 5, 7)
    out = layer(x)  # in train mode: the norm's statistics are the same for all four sub-pixels too
    torch.testing.assert_close(out, out[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
    (out * torch.randn_like(out)).sum().backward()
    gradient = layer[0].weight.grad
    assert (gradient[0] - gradient[1]).abs().max() > 1e-3


def test_heads_in_one_convolution_are_the_heads():
    decoder = PBRDecoder(8, (4, 6), 2).eval()
    for parameter in decoder.heads.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 64, 5, 7)
    for name, values in decoder.head_values(x).items():
        torch.testing.assert_close(values, decoder.heads[name](x))
    flat = PBRDecoder(8, (4, 6), 2).head_values(torch.zeros(1, 64, 2, 2))["normal"]
    torch.testing.assert_close(flat, torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2))


def test_stems_keep_what_they_know():
    stem = torch.nn.Conv2d(3, 4, 7, 2, 3, bias=False)
    one, four = adapt_stem(stem, 3, 1), adapt_stem(stem, 6, 2)
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(one(x)[..., ::2, ::2], stem(x))
    grey = x[:, :1]
    torch.testing.assert_close(four(grey.repeat(1, 6, 1, 1)), stem(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("layers, field", [(3, 70), (4, 142), (5, 286), (6, 574)])
def test_discriminators_see_the_documented_field(layers, field):
    net, size = PatchDiscriminator(8, 2, layers, False), 1
    for layer in reversed([part for part in net.layers if isinstance(part, torch.nn.Conv2d)]):
        size = (size - 1) * layer.stride[0] + layer.kernel_size[0]
    assert size == field
    side = 3 << layers
    assert net(torch.randn(2, 8, side, side)).shape == (2, 1, 1, 1)
    assert PatchDiscriminator(8, 2, 4, True, instance_norm=True)(torch.randn(1, 8, 64, 64)).shape == (1, 1, 3, 3)


def test_frozen_parts_stay():
    model = MultiViewPBRGenerator(small(model__freeze_bn=True)).train()
    norms = [part for part in model.encoder.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    model(torch.randn(2, 3, 3, 64, 64) + 3)["albedo"].sum().backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before))
    assert all(norm.weight.grad is None for norm in norms)
    assert any(p.grad is not None for p in model.encoder.parameters())
    model = MultiViewPBRGenerator(small(model__freeze_backbone=True)).train()
    model(torch.randn(2, 3, 3, 64, 64))["albedo"].sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())


def test_recomputed_activations_give_the_same_gradient():
    gradients = []
    for wanted in (False, True):
        torch.manual_seed(0)
        model = MultiViewPBRGenerator(small(model__activation_checkpointing=wanted, model__transformer_proj_drop=0.0,
                                            model__transformer_attn_drop=0.0)).train()  # fmt: skip
        model(torch.randn(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(1)))["albedo"].mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_pretrained_weights_that_cannot_be_had_are_said_in_one_line(monkeypatch, refused):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    config = small(model__encoder_type="resnet", model__encoder_backbone="resnet18", model__pretrained=True)
    with refused("resnet18", "--no-pretrained"):
        MultiViewPBRGenerator(config)
    MultiViewPBRGenerator(config.to_dict())  # what a checkpoint holds asks for nothing
    MultiViewPBRGenerator(config, pretrained=False)


def test_a_unet_has_no_more_levels_than_it_was_given():
    encoder = UNetEncoder((4, 8, 12), 1, 3)
    skips, latent = encoder(torch.randn(1, 3, 16, 16))
    assert [skip.shape[1:] for skip in skips] == [(4, 16, 16), (8, 8, 8)] and latent.shape[1:] == (12, 4, 4)
    assert build_encoder(ModelConfig(encoder_type="unet", encoder_channels=(4, 8)), False).latent_channels == 8


# --- losses --------------------------------------------------------------------------------------------------------


def test_the_hybrid_loss_is_the_sum_it_says():
    settings = LossConfig(w_l1=0.7, w_ssim=0.2, w_normal=0.4, w_albedo=2.0, w_normal_map=3.0)
    got, want = maps(seed=1), maps(seed=2)
    total, parts = HybridLoss(settings)(got, want)
    l1 = {name: np.abs(got[name].numpy() - want[name].numpy()).mean() for name in MAPS}
    turned = 1 - (got["normal"].numpy() * want["normal"].numpy()).sum(1).mean()
    by_hand = 0.7 * (2 * l1["albedo"] + l1["roughness"] + l1["metallic"] + 3 * l1["normal"]) + 0.4 * turned
    by_hand += 0.2 * (1 - float(ssim(got["albedo"], want["albedo"]).mean()))
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    assert float(HybridLoss(settings)(want, want)[0]) == pytest.approx(0, abs=1e-5)
    assert float(parts["l1_albedo"]) == pytest.approx(l1["albedo"], rel=1e-5)


def test_losses_without_any_weight_still_have_a_gradient():
    got = {name: values.requires_grad_() for name, values in maps().items()}
    weights = dict.fromkeys(("w_l1", "w_ssim", "w_normal"), 0.0)
    HybridLoss(LossConfig(**weights))(got, maps(seed=5))[0].backward()
    assert all(values.grad is None or not values.grad.any() for values in got.values())


def test_angles_are_exact():
    for degrees in (0.0, 0.05, 8.0, 90.0, 180.0):
        a = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
        turn = math.radians(degrees)
        b = torch.tensor([math.sin(turn), 0.0, math.cos(turn)]).reshape(1, 3, 1, 1)
        assert float(angles(a, b)) == pytest.approx(degrees, abs=1e-3)


def test_gan_losses():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.25])
    hinge, bce = GANLoss("hinge"), GANLoss("bce")
    assert float(hinge.discriminator(real, fake)) == pytest.approx((0.5 + 0) / 2 + (0 + 1.25) / 2)
    assert float(hinge.generator(fake)) == pytest.approx(1.375)
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    by_hand = softplus(-real.numpy()).mean() + softplus(fake.numpy()).mean()
    assert float(bce.discriminator(real, fake)) == pytest.approx(by_hand, rel=1e-5)
    likely = GANLoss("bce", probabilities=True)
    assert float(likely.discriminator(real.sigmoid(), fake.sigmoid())) == pytest.approx(by_hand, rel=1e-4)


def test_distillation_is_a_divergence_of_softened_maps():
    student, teacher = maps(seed=3), maps(seed=4)
    loss = DistillationLoss(4.0)
    total, parts = loss(student, teacher)
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    soft = lambda v: 1 / (1 + np.exp(-logit(np.clip(v.double().numpy(), 1e-6, 1 - 1e-6)) / 4))  # noqa: E731
    s, t = soft(student["albedo"]), soft(teacher["albedo"])
    by_hand = 16 * (t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))).mean()
    assert float(parts["distill_albedo"]) == pytest.approx(by_hand, rel=1e-3)
    assert float(loss(teacher, teacher)[0]) == pytest.approx(0, abs=1e-5) and float(total) > 0


# --- metrics -------------------------------------------------------------------------------------------------------


def test_a_constant_half_scores_what_arithmetic_says():
    target = {name: torch.rand(3, channels, 16, 16) for name, channels in MAPS.items()}
    target["albedo"] = torch.zeros(3, 3, 16, 16)
    target["roughness"][:] = 0.75
    target["normal"] = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(3, 3, 16, 16)
    half = {name: torch.full_like(values, 0.5) for name, values in target.items()}
    half["normal"] = unit(torch.tensor([1.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(3, 3, 16, 16), 1)
    metrics = MapMetrics()
    metrics.add({k: v[:2] for k, v in half.items()}, {k: v[:2] for k, v in target.items()})
    metrics.add({k: v[2:] for k, v in half.items()}, {k: v[2:] for k, v in target.items()})
    means = metrics.means()
    assert means["albedo_psnr"] == pytest.approx(20 * math.log10(2)) and means["albedo_mae"] == 0.5
    assert means["roughness_psnr"] == pytest.approx(20 * math.log10(4))
    uniform = ((target["metallic"] - 0.5).double() ** 2).mean((1, 2, 3))
    assert means["metallic_psnr"] == pytest.approx(float((-10 * uniform.log10()).mean()))
    assert means["normal_angle_mean"] == pytest.approx(45, abs=1e-4) == means["normal_angle_p95"]
    both = sum(means[f"{name}_psnr"] for name in ("albedo", "roughness", "metallic")) / 3
    assert means["overall_psnr"] == pytest.approx(both)


def test_ssim_is_that_of_the_core():
    from metrics.scores import ssim_per_channel

    a, b = torch.rand(1, 3, 40, 32), torch.rand(1, 3, 40, 32)
    core = ssim_per_channel(*(x[0].permute(1, 2, 0).numpy() for x in (a, b)))
    assert float(ssim(a, b)) == pytest.approx(sum(core) / 3, abs=1e-4)


def test_generator_refuses_other_numbers_of_views():
    with pytest.raises(ValueError, match="views"):
        MultiViewPBRGenerator(small())(torch.randn(1, 2, 3, 64, 64))
    with pytest.raises(UserError, match="section"):
        MultiViewPBRGenerator({"modle": {}})
