"""The fused GPU engine in Triton: one kernel draws samples and computes gradients, others take Adam's steps.

`plan` turns a model's shape into constants; `maths`, `inputs` and `network` are device functions, `kernels` and `adam`
the kernels; `library` imports and launches them, `buffers` is their memory, `engine` trains and `decoder` decodes with
them, `self_check` compares them with PyTorch, `compiled` compiles them without a GPU. Importing the package needs no
Triton.
"""
