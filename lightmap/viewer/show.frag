// One lightmap texel per pixel, or every stride-th one. Behind the decoder, which this needs.

uniform highp float hours;
uniform highp int stride;
uniform highp vec2 lightmapSize;
layout(location = 0) out highp vec4 color;

// Reinhard et al. 2002, equation 3, then sRGB: what infer.py writes into PNG files of a day of high range.
vec3 display(vec3 light)
{
    if (LM_HIGH_RANGE == 0)
        return light;
    vec3 x = light / LM_RANGE_SCALE;
    x = x / (1.0 + x);
    return mix(1.055 * pow(x, vec3(1.0 / 2.4)) - 0.055, 12.92 * x, vec3(lessThanEqual(x, vec3(0.0031308))));
}

void main()
{
    vec2 texel = min(floor(gl_FragCoord.xy) * float(stride) + float(stride / 2), lightmapSize - 1.0);
    bool same = int(lightmapSize.x) == LM_LATENT_WIDTH && int(lightmapSize.y) == LM_LATENT_HEIGHT;
    vec3 encoded = same ? lmDecodeTexel(ivec2(texel), hours) : lmDecode((texel + 0.5) / lightmapSize, hours);
    color = vec4(display(lmLight(encoded)), 1.0);
}
