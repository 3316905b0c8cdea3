"""The fused GPU engine in Triton: a kernel from the drawing of samples to the gradients, others for Adam.

`plan` turns a model's shape into constants; `maths`, `inputs` and `network` are device functions, `kernels` and `adam`
the kernels; `library` says whether they can run, `buffers` is their memory, `engine` trains with them, `self_check`
compares them with PyTorch, `decoder` decodes with them, `compiled` compiles them for GPUs that are not there. Importing
the package needs no Triton.
"""
