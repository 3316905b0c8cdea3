// What the material's kernels ask of the system and of a C++ library.
#include "../../engine/cpu/src/bare.cpp"
#include "../../engine/cpu/src/system.cpp"
