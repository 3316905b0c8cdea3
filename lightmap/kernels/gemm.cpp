// The matrix products of the material's kernels, under the one file name that is compiled with fused multiply-adds.
#include "../../engine/cpu/src/gemm.cpp"
