// Stops the compiler where it says that a flag changes what the code means.  CMakeLists.txt undoes
// such flags, so this is for those that come after its own (set for one source or target) and for
// other builds.  No compiler says that it contracts, and Clang reports little but -ffast-math.
#pragma once

#if defined(__FAST_MATH__) || defined(_M_FP_FAST)
#error \
    "zeropoint: -ffast-math, -Ofast or /fp:fast changes results; compile these sources without it"
#endif

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "zeropoint: -ffinite-math-only lets NaN pass the checks; compile these sources without it"
#endif

#if defined(__GCC_IEC_559) && __GCC_IEC_559 < 2
#error \
    "zeropoint: not IEEE 754's arithmetic: compile these sources without -funsafe-math-optimizations, -fno-signed-zeros, -freciprocal-math"
#endif

#if defined(__FLT_EVAL_METHOD__) && (__FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ % 16)
#error \
    "zeropoint: float must be evaluated as float, not as -mfpmath=387 or -m32 does: use -mfpmath=sse"
#endif

namespace zeropoint::core {

static_assert(sizeof(0.5) == sizeof(double), "compile without -fsingle-precision-constant");

struct ByteAndInt {
    char byte;
    int number;
};
static_assert(sizeof(ByteAndInt) == 2 * sizeof(int), "compile without -fpack-struct");

}  // namespace zeropoint::core
