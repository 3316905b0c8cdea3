// light.glsl in WGSL, function by function; the sources of the formulas are named there.

const PI: f32 = 3.14159265;
const SKY = vec3<f32>(0.50, 0.58, 0.70);
const HORIZON = vec3<f32>(0.80, 0.79, 0.77);
const GROUND = vec3<f32>(0.20, 0.185, 0.17);
const SUN = vec3<f32>(2.6, 2.45, 2.25);  // irradiance on a surface that faces it, divided by pi
const COSINE_LOBE = vec2<f32>(1.17, 2.133);  // amplitude and sharpness of the Gaussian nearest to a clamped cosine

struct Lamp
{
    axis: vec3<f32>,
    amplitude: vec3<f32>,
    sharpness: f32,
}

fn lampAt(index: i32) -> Lamp
{
    if (index == 0) { return Lamp(normalize(vec3<f32>(-0.7, 0.6, 0.5)), vec3<f32>(3.2, 3.1, 3.0), 24.0); }
    if (index == 1) { return Lamp(normalize(vec3<f32>(0.9, 0.25, 0.2)), vec3<f32>(1.5, 1.55, 1.7), 12.0); }
    return Lamp(normalize(vec3<f32>(0.1, 0.35, -1.0)), vec3<f32>(2.2, 2.1, 1.9), 8.0);
}

/// Sky, horizon and ground as seen by a lobe of this roughness.
fn gradient(direction: vec3<f32>, roughness: f32) -> vec3<f32>
{
    let width = mix(0.12, 1.0, roughness);
    let sides = mix(GROUND, SKY, smoothstep(-width, width, direction.y));
    let glow = exp(-abs(direction.y) / (0.12 + 0.5 * roughness)) / (1.0 + 2.5 * roughness);
    return mix(sides, HORIZON, 0.8 * glow);
}

/// The integral of two spherical Gaussians' product, for amplitudes of 1.
fn lobeProduct(axisA: vec3<f32>, sharpnessA: f32, axisB: vec3<f32>, sharpnessB: f32) -> f32
{
    let um = length(sharpnessA * axisA + sharpnessB * axisB);
    return 2.0 * PI * exp(um - sharpnessA - sharpnessB) * (1.0 - exp(-2.0 * um)) / um;
}

/// Irradiance of the environment divided by pi.
fn diffuseEnvironment(n: vec3<f32>) -> vec3<f32>
{
    var sum = mix(mix(GROUND, SKY, 0.5 + 0.5 * n.y), HORIZON, 0.22);
    for (var i = 0; i < 3; i++)
    {
        let lamp = lampAt(i);
        sum += lamp.amplitude * (COSINE_LOBE.x * lobeProduct(n, COSINE_LOBE.y, lamp.axis, lamp.sharpness) / PI);
    }
    return sum;
}

/// What a lobe of this roughness around the reflected direction sees.
fn specularEnvironment(reflected: vec3<f32>, roughness: f32, nDotV: f32) -> vec3<f32>
{
    let alpha = max(roughness * roughness, 0.002);
    let sharpness = 2.0 / (alpha * alpha) / (4.0 * max(nDotV, 0.1));
    var sum = gradient(reflected, roughness);
    for (var i = 0; i < 3; i++)
    {
        let lamp = lampAt(i);
        let both = sharpness + lamp.sharpness;
        let seen = exp(sharpness * lamp.sharpness / both * (dot(reflected, lamp.axis) - 1.0));
        sum += lamp.amplitude * (sharpness / both * seen);
    }
    return sum;
}

fn environmentBrdf(f0: vec3<f32>, roughness: f32, nDotV: f32) -> vec3<f32>
{
    let r = roughness * vec4<f32>(-1.0, -0.0275, -0.572, 0.022) + vec4<f32>(1.0, 0.0425, 1.04, -0.04);
    let a = min(r.x * r.x, exp2(-9.28 * nDotV)) * r.x + r.y;
    let scaleAndBias = vec2<f32>(-1.04, 1.04) * a + r.zw;
    return f0 * scaleAndBias.x + scaleAndBias.y;
}

/// Radiance towards v, linear. All vectors have length 1; base in linear light; occlusion dims the environment alone.
fn shade(base: vec3<f32>, n: vec3<f32>, v: vec3<f32>, sun: vec3<f32>, roughness: f32, occlusion: f32, metallic: f32,
    specular: f32) -> vec3<f32>
{
    let rough = clamp(roughness, 0.045, 1.0);  // below it the sun's highlight is smaller than a pixel
    let nDotV = max(dot(n, v), 1e-3);
    let albedo = base * (1.0 - metallic);
    let f0 = mix(vec3<f32>(0.08 * specular), base, metallic);
    let dimmed = clamp(pow(nDotV + occlusion, exp2(-16.0 * rough - 1.0)) - 1.0 + occlusion, 0.0, 1.0);
    var color = albedo * diffuseEnvironment(n) * occlusion;
    color += environmentBrdf(f0, rough, nDotV) * specularEnvironment(reflect(-v, n), rough, nDotV) * dimmed;
    let nDotL = dot(n, sun);
    if (nDotL > 0.0)
    {
        let h = normalize(v + sun);
        let nDotH = max(dot(n, h), 0.0);
        let a2 = pow(rough, 4.0);
        let d = nDotH * nDotH * (a2 - 1.0) + 1.0;
        let distribution = a2 / (d * d);  // times 1 / pi, which SUN leaves out
        let k = (rough + 1.0) * (rough + 1.0) / 8.0;
        let visibility = 0.25 / ((nDotV * (1.0 - k) + k) * (nDotL * (1.0 - k) + k));
        let fresnel = f0 + (1.0 - f0) * exp2((-5.55473 * dot(v, h) - 6.98316) * dot(v, h));
        color += SUN * nDotL * ((1.0 - fresnel) * albedo + distribution * visibility * fresnel);
    }
    return color;
}

/// Linear radiance to display values before sRGB encoding; keeps base colours below 0.76 as they are.
fn toneMap(radiance: vec3<f32>) -> vec3<f32>
{
    const start = 0.8 - 0.04;
    const desaturation = 0.15;
    let low = min(radiance.r, min(radiance.g, radiance.b));
    let color = radiance - select(0.04, low - 6.25 * low * low, low < 0.08);
    let peak = max(color.r, max(color.g, color.b));
    if (peak < start) { return color; }
    const d = 1.0 - start;
    let mapped = 1.0 - d * d / (peak + d - start);
    return mix(color * (mapped / peak), vec3<f32>(mapped), 1.0 - 1.0 / (desaturation * (peak - mapped) + 1.0));
}
