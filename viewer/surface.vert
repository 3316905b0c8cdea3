#version 300 es
// A shape, or with uFill the whole viewport. vUv counts whole tiles.
precision highp float;

layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec4 tangent;  // the direction of u; the last one is -1 where u and v are mirrored, 1 elsewhere
layout(location = 3) in vec2 uv;

uniform mat4 uViewProjection;
uniform vec2 uUvScale;
uniform bool uFill;

invariant gl_Position;  // programs that draw the same triangles find the same depths

out vec3 vPosition;
out vec3 vNormal;
out vec4 vTangent;
out vec2 vUv;

void main()
{
    vPosition = position;
    vNormal = normal;
    vTangent = tangent;
    vUv = uv * uUvScale;
    gl_Position = uFill ? vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0)
                        : uViewProjection * vec4(position, 1.0);
}
