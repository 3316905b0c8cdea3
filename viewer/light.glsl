// Shading and colours.
//
// The material is GGX with an environment that is a function of the direction, no image.
//
// The environment is a gradient from the ground over the horizon to the sky, three soft lamps, and a sun. A lamp is a
// spherical Gaussian, amplitude * exp(sharpness * (dot(axis, direction) - 1)), because that has closed forms for what a
// diffuse and a rough surface reflect of it (Wang et al. 2009, "All-Frequency Rendering of Dynamic, Spatially-Varying
// Reflectance"; Pettineo 2016, "SG Series"). The sun is a direction, with GGX as written in Karis 2013, "Real Shading in
// Unreal Engine 4"; the environment's share of the specular lobe is the fit of Karis 2014, "Physically Based Shading on
// Mobile".

const float PI = 3.14159265;
const vec3 SKY = vec3(0.50, 0.58, 0.70);
const vec3 HORIZON = vec3(0.80, 0.79, 0.77);
const vec3 GROUND = vec3(0.20, 0.185, 0.17);
const vec3 SUN = vec3(2.6, 2.45, 2.25);  // irradiance on a surface that faces it, divided by pi
const vec2 COSINE_LOBE = vec2(1.17, 2.133);  // amplitude and sharpness of the Gaussian nearest to a clamped cosine

struct Lamp
{
    vec3 axis;
    vec3 amplitude;
    float sharpness;
};

Lamp lampAt(int index)
{
    if (index == 0) { return Lamp(normalize(vec3(-0.7, 0.6, 0.5)), vec3(3.2, 3.1, 3.0), 24.0); }
    if (index == 1) { return Lamp(normalize(vec3(0.9, 0.25, 0.2)), vec3(1.5, 1.55, 1.7), 12.0); }
    return Lamp(normalize(vec3(0.1, 0.35, -1.0)), vec3(2.2, 2.1, 1.9), 8.0);
}

/// Sky, horizon and ground as seen by a lobe of this roughness.
vec3 gradient(vec3 direction, float roughness)
{
    float width = mix(0.12, 1.0, roughness);
    vec3 sides = mix(GROUND, SKY, smoothstep(-width, width, direction.y));
    float glow = exp(-abs(direction.y) / (0.12 + 0.5 * roughness)) / (1.0 + 2.5 * roughness);
    return mix(sides, HORIZON, 0.8 * glow);
}

/// The integral of two spherical Gaussians' product, for amplitudes of 1.
float lobeProduct(vec3 axisA, float sharpnessA, vec3 axisB, float sharpnessB)
{
    float um = length(sharpnessA * axisA + sharpnessB * axisB);
    return 2.0 * PI * exp(um - sharpnessA - sharpnessB) * (1.0 - exp(-2.0 * um)) / um;
}

/// Irradiance of the environment divided by pi.
vec3 diffuseEnvironment(vec3 n)
{
    vec3 sum = mix(mix(GROUND, SKY, 0.5 + 0.5 * n.y), HORIZON, 0.22);
    for (int i = 0; i < 3; i++)
    {
        Lamp lamp = lampAt(i);
        sum += lamp.amplitude * (COSINE_LOBE.x * lobeProduct(n, COSINE_LOBE.y, lamp.axis, lamp.sharpness) / PI);
    }
    return sum;
}

/// What a lobe of this roughness around the reflected direction sees.
vec3 specularEnvironment(vec3 reflected, float roughness, float nDotV)
{
    float alpha = max(roughness * roughness, 0.002);
    float sharpness = 2.0 / (alpha * alpha) / (4.0 * max(nDotV, 0.1));
    vec3 sum = gradient(reflected, roughness);
    for (int i = 0; i < 3; i++)
    {
        Lamp lamp = lampAt(i);
        float both = sharpness + lamp.sharpness;
        float seen = exp(sharpness * lamp.sharpness / both * (dot(reflected, lamp.axis) - 1.0));
        sum += lamp.amplitude * (sharpness / both * seen);
    }
    return sum;
}

vec3 environmentBrdf(vec3 f0, float roughness, float nDotV)
{
    vec4 r = roughness * vec4(-1.0, -0.0275, -0.572, 0.022) + vec4(1.0, 0.0425, 1.04, -0.04);
    float a = min(r.x * r.x, exp2(-9.28 * nDotV)) * r.x + r.y;
    vec2 scaleAndBias = vec2(-1.04, 1.04) * a + r.zw;
    return f0 * scaleAndBias.x + scaleAndBias.y;
}

/// Radiance towards v, linear. All vectors have length 1; base in linear light; occlusion dims the environment alone.
vec3 shade(vec3 base, vec3 n, vec3 v, vec3 sun, float roughness, float occlusion, float metallic, float specular)
{
    float rough = clamp(roughness, 0.045, 1.0);  // below it the sun's highlight is smaller than a pixel
    float nDotV = max(dot(n, v), 1e-3);
    vec3 albedo = base * (1.0 - metallic);
    vec3 f0 = mix(vec3(0.08 * specular), base, metallic);
    // Specular occlusion: Lagarde and de Rousiers 2014, "Moving Frostbite to Physically Based Rendering"
    float dimmed = clamp(pow(nDotV + occlusion, exp2(-16.0 * rough - 1.0)) - 1.0 + occlusion, 0.0, 1.0);
    vec3 color = albedo * diffuseEnvironment(n) * occlusion;
    color += environmentBrdf(f0, rough, nDotV) * specularEnvironment(reflect(-v, n), rough, nDotV) * dimmed;
    float nDotL = dot(n, sun);
    if (nDotL > 0.0)
    {
        vec3 h = normalize(v + sun);
        float nDotH = max(dot(n, h), 0.0);
        float a2 = pow(rough, 4.0);
        float d = nDotH * nDotH * (a2 - 1.0) + 1.0;
        float distribution = a2 / (d * d);  // times 1 / pi, which SUN leaves out
        float k = (rough + 1.0) * (rough + 1.0) / 8.0;
        float visibility = 0.25 / ((nDotV * (1.0 - k) + k) * (nDotL * (1.0 - k) + k));
        vec3 fresnel = f0 + (1.0 - f0) * exp2((-5.55473 * dot(v, h) - 6.98316) * dot(v, h));
        color += SUN * nDotL * ((1.0 - fresnel) * albedo + distribution * visibility * fresnel);
    }
    return color;
}

/// Linear radiance to display values before sRGB encoding; keeps base colours below 0.76 as they are.
/// Source: Khronos PBR Neutral tone mapper, 2024.
vec3 toneMap(vec3 radiance)
{
    const float start = 0.8 - 0.04;
    const float desaturation = 0.15;
    float low = min(radiance.r, min(radiance.g, radiance.b));
    float offset = 0.04;
    if (low < 0.08) { offset = low - 6.25 * low * low; }
    vec3 color = radiance - offset;
    float peak = max(color.r, max(color.g, color.b));
    if (peak < start) { return color; }
    float d = 1.0 - start;
    float mapped = 1.0 - d * d / (peak + d - start);
    color *= mapped / peak;
    return mix(color, vec3(mapped), 1.0 - 1.0 / (desaturation * (peak - mapped) + 1.0));
}

vec3 linearToSrgb(vec3 c)
{
    vec3 high = 1.055 * pow(max(c, vec3(0.0031308)), vec3(1.0 / 2.4)) - 0.055;
    return mix(high, c * 12.92, step(c, vec3(0.0031308)));
}

/// A normal in [0, 1] made one of length 1, as file_space.unit_normals does it; `given`: components that are the same in
/// every texel, -1 for the others.
vec3 unitNormal(vec3 value, vec3 given)
{
    vec3 open = 1.0 - step(vec3(0.0), given);
    vec3 constant = (given * 2.0 - 1.0) * (1.0 - open);
    float room = 1.0 - dot(constant, constant);
    if (open.z == 0.0 || room <= 0.0) { return value; }
    vec3 direction = (value * 2.0 - 1.0) * open;
    float size = length(direction);
    if (size > 1e-6) { direction = direction / size; } else { direction = vec3(0.0, 0.0, 1.0); }
    return direction * sqrt(room) * 0.5 + 0.5;
}

/// 0 .. 1 as black, violet, red, orange, pale yellow; the legend of style.css has the same colours.
vec3 heat(float x)
{
    float at = clamp(x, 0.0, 1.0) * 4.0;
    vec3 color = mix(vec3(0.0, 0.0, 0.04), vec3(0.34, 0.06, 0.43), clamp(at, 0.0, 1.0));
    color = mix(color, vec3(0.73, 0.21, 0.33), clamp(at - 1.0, 0.0, 1.0));
    color = mix(color, vec3(0.98, 0.56, 0.04), clamp(at - 2.0, 0.0, 1.0));
    return mix(color, vec3(0.99, 1.0, 0.64), clamp(at - 3.0, 0.0, 1.0));
}

/// The grey of what has nothing of that which is looked at.
vec3 nothing(vec3 n, vec3 toEye)
{
    return vec3(0.18 + 0.12 * max(dot(n, toEye), 0.0));
}

/// The nearest 8-bit codes.
vec4 rounded(vec4 c)
{
    return floor(clamp(c, vec4(0.0), vec4(1.0)) * 255.0 + 0.5) / 255.0;
}
