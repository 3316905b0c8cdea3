#version 300 es
// Fills the shape; with several samples per pixel alpha becomes the share of a pixel that the shape covers.
precision mediump float;

out vec4 color;

void main()
{
    color = vec4(1.0);
}
