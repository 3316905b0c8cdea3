// One lightmap texel per pixel, or every stride-th one. Behind the decoder, which this needs.

uniform highp float hours;
uniform highp int stride;
uniform highp vec2 lightmapSize;
layout(location = 0) out highp vec4 color;

// As pictures.tone_mapped: Reinhard et al. 2002, equation 4, then sRGB.
vec3 display(vec3 light)
{
    if (LM_HIGH_RANGE == 0)
        return light;
    float white = 0.18 * (exp(LM_RANGE_LOG) - 1.0);
    vec3 x = 0.18 * light / LM_RANGE_SCALE;
    x = clamp(x * (1.0 + x / (white * white)) / (1.0 + x), 0.0, 1.0);
    return mix(1.055 * pow(x, vec3(1.0 / 2.4)) - 0.055, 12.92 * x, vec3(lessThanEqual(x, vec3(0.0031308))));
}

void main()
{
    vec2 texel = min(floor(gl_FragCoord.xy) * float(stride) + float(stride / 2), lightmapSize - 1.0);
    bool same = int(lightmapSize.x) == LM_LATENT_WIDTH && int(lightmapSize.y) == LM_LATENT_HEIGHT;
    vec3 encoded = same ? lmDecodeTexel(ivec2(texel), hours) : lmDecode((texel + 0.5) / lightmapSize, hours);
    color = vec4(display(lmLight(encoded)), 1.0);
}
