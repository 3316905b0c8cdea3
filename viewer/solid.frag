#version 300 es
// The shape as such: with several samples a pixel it says how much of a pixel is covered.
precision mediump float;

out vec4 color;

void main()
{
    color = vec4(1.0);
}
