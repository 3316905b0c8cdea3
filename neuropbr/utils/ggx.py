"""A small renderer of flat PBR materials: GGX microfacets, one lamp, and a sky, in linear light.

The material is the square [-0.5, 0.5]^2 in the plane z = 0, x to the right, y to the top of its image, z up. Colours
are linear; images are (3, H, W) or, per pixel, (..., 3).
Sources: Walter et al. 2007 (GGX), Heitz 2014 (height-correlated Smith), Karis 2014, "Physically based shading on
mobile" (the split sum as a polynomial).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from neuropbr.utils.maps import unit

MIN_ALPHA = 0.002  # a mirror would show no highlight of a point light
DIELECTRIC = 0.04  # reflectance at normal incidence
SUPERSAMPLING = 2

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A camera that looks at the origin, `tilt` radians off the normal towards `azimuth` (0 is +x, pi/2 is +y).

    At tilt 0 the image shows exactly the material's square.
    """

    tilt: float
    azimuth: float
    distance: float = 2.0

    @property
    def position(self) -> Vector:
        flat = self.distance * math.sin(self.tilt)
        return flat * math.cos(self.azimuth), flat * math.sin(self.azimuth), self.distance * math.cos(self.tilt)


@dataclass(frozen=True)
class Light:
    lamp: Vector  # position
    power: float  # irradiance of a surface at distance 1 that faces the lamp, times 1 / pi
    sky: Vector = (0.30, 0.33, 0.38)  # radiance from above
    ground: Vector = (0.10, 0.09, 0.08)  # radiance from the horizon and below


def fresnel(f0: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
    """Schlick's approximation; f0 (..., 3), cosine (..., 1) of half vector and view."""
    return f0 + (1 - f0) * (1 - cosine).clamp(0, 1) ** 5


def ggx(alpha: torch.Tensor, n_h: torch.Tensor, n_l: torch.Tensor, n_v: torch.Tensor) -> torch.Tensor:
    """Distribution times visibility, D * G / (4 n_l n_v), of roughness^2 = alpha and cosines, all (..., 1)."""
    a2 = alpha * alpha
    distribution = a2 / (math.pi * (n_h * n_h * (a2 - 1) + 1) ** 2)
    smith = n_l * (n_v * n_v * (1 - a2) + a2).sqrt() + n_v * (n_l * n_l * (1 - a2) + a2).sqrt()
    return distribution * 0.5 / smith.clamp_min(1e-6)


def shade(surface: Mapping[str, torch.Tensor], position: torch.Tensor, eye: torch.Tensor, light: Light) -> torch.Tensor:
    """Radiance (..., 3) towards the camera.

    surface: albedo (..., 3) linear, roughness, metallic, occlusion (..., 1), normal (..., 3).
    """
    normal, albedo, metallic = surface["normal"], surface["albedo"], surface["metallic"]
    alpha = (surface["roughness"] ** 2).clamp_min(MIN_ALPHA)
    f0 = DIELECTRIC * (1 - metallic) + albedo * metallic
    diffuse = albedo * (1 - metallic)
    view = F.normalize(eye - position, dim=-1)
    n_v = (normal * view).sum(-1, keepdim=True).clamp_min(1e-3)

    to_lamp = position.new_tensor(light.lamp) - position
    falloff = light.power * math.pi / (to_lamp**2).sum(-1, keepdim=True)
    to_lamp = F.normalize(to_lamp, dim=-1)
    half = F.normalize(view + to_lamp, dim=-1)
    n_l = (normal * to_lamp).sum(-1, keepdim=True).clamp_min(0)
    n_h = (normal * half).sum(-1, keepdim=True).clamp(0, 1)
    reflectance = fresnel(f0, (view * half).sum(-1, keepdim=True).clamp(0, 1))
    direct = ((1 - reflectance) * diffuse / math.pi + reflectance * ggx(alpha, n_h, n_l, n_v)) * falloff * n_l

    mirrored = 2 * n_v * normal - view
    ambient = diffuse * _sky(normal[..., 2:], light) + _sky(mirrored[..., 2:], light) * _split_sum(
        f0, alpha.sqrt(), n_v
    )
    return direct + ambient * surface["occlusion"]


def _sky(height: torch.Tensor, light: Light) -> torch.Tensor:
    """Radiance of directions whose z is `height`."""
    weight = (0.5 + 0.5 * height).clamp(0, 1)
    return height.new_tensor(light.ground) * (1 - weight) + height.new_tensor(light.sky) * weight


def _split_sum(f0: torch.Tensor, roughness: torch.Tensor, n_v: torch.Tensor) -> torch.Tensor:
    r = [roughness * a + b for a, b in ((-1, 1), (-0.0275, 0.0425), (-0.572, 1.04), (0.022, -0.04))]
    a004 = torch.minimum(r[0] * r[0], torch.exp2(-9.28 * n_v)) * r[0] + r[1]
    return f0 * (-1.04 * a004 + r[2]) + (1.04 * a004 + r[3])


def render(maps: Mapping[str, torch.Tensor], camera: Camera, light: Light, size: int) -> torch.Tensor:
    """(3, size, size) linear radiance, averaged over SUPERSAMPLING^2 rays a pixel.

    maps: name -> (C, H, W); albedo linear, normal unit vectors; occlusion may be missing. Beyond its border the
        material is mirrored: a tilted camera sees a little of that in the corners.
    """
    rays = size * SUPERSAMPLING
    eye = torch.tensor(camera.position)
    forward = F.normalize(-eye, dim=0)
    right = F.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    up = torch.linalg.cross(right, forward)
    steps = ((torch.arange(rays) + 0.5) / rays - 0.5) / camera.distance  # half the square at that distance
    down, across = torch.meshgrid(-steps, steps, indexing="ij")
    ray = forward + across[..., None] * right + down[..., None] * up
    position = eye + ray * (-eye[2] / ray[..., 2:])
    where = torch.stack([2 * position[..., 0], -2 * position[..., 1]], -1)[None]
    surface = {
        name: F.grid_sample(values[None], where, padding_mode="reflection", align_corners=False)[0].permute(1, 2, 0)
        for name, values in maps.items()
    }
    surface["normal"] = unit(surface["normal"], -1)
    surface.setdefault("occlusion", torch.ones_like(surface["roughness"]))
    image = shade(surface, position, eye, light).permute(2, 0, 1)
    return F.avg_pool2d(image[None], SUPERSAMPLING)[0]
