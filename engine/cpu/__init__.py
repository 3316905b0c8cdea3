"""The fused CPU engine: C++ kernels that draw samples, compute gradients and take Adam's steps in one pass.

`src` holds the kernels (start with nt.h), `build` compiles them for this machine, `library` declares them to Python,
`engine` trains, `decoder` decodes and `code_search` improves codes with them.
"""
