"""The fused CPU engine: one pass of C++ from the drawing of samples to Adam, compiled for the machine at hand.

`src` holds the kernels (start with nt.h), `build` compiles them, `library` declares them to Python, `decoder` decodes
with them, `engine` trains with them.
"""
