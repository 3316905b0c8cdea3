// The colour of a part of a model that has no neural texture, or none of what is looked at. light.glsl precedes this text.

uniform bool uNothing;  // the part has nothing of what is looked at: grey
uniform bool uBlended;
uniform vec3 uEye;
uniform vec3 uSun;
uniform vec4 uBase;  // linear
uniform float uRoughness;
uniform float uMetallic;
uniform vec3 uEmitted;
uniform float uExposure;

in vec3 vPosition;
in vec3 vNormal;
out vec4 color;

void main()
{
    vec3 n = normalize(vNormal) * (gl_FrontFacing ? 1.0 : -1.0);
    vec3 toEye = normalize(uEye - vPosition);
    vec3 light = shade(uBase.rgb, n, toEye, uSun, uRoughness, 1.0, uMetallic, 0.5) + uEmitted;
    vec3 front = uNothing ? nothing(n, toEye) : linearToSrgb(toneMap(light * uExposure));
    float alpha = uBlended ? uBase.a : 1.0;
    color = vec4(alpha * clamp(front, 0.0, 1.0), alpha);
}
