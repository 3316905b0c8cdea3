"""The fused GPU engine in Triton: one kernel from the drawing of samples to the gradients, others for Adam.

`plan` turns a model's shape into the kernels' constants, `maths`, `inputs` and `network` are device functions, `kernels`
and `adam` the kernels, `library` says whether they can run, `engine` trains with them, `decoder` decodes with them,
`compiled` compiles them for GPUs that are not there. Importing the package needs no Triton.
"""
