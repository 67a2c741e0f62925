// The walk of `errors`: its sums have one order whatever threads there are, which `run` of layout.h
// does not promise.
#pragma once

#include "layout.h"
#include "views.h"

namespace zeropoint::core {

/// The kernels that a chunk goes through; those that have nothing to do are null.
struct ErrorStages {
    Stage swap;   ///< the bytes of x to the order of this machine
    Stage widen;  ///< x to the working precision
    Stage quantize, clipped, dequantize;
    Stage refine, refine_back;                     ///< x and x' to the finer of the two precisions
    Kernel errors, tally, fewest, fewest_of_many;  ///< many: of counts in 64 bits
};

/// False if `poll` stopped it.  Throws std::bad_alloc before anything is done.
bool measure(const Layout&, const Side& x, const ErrorStages&, Errors& errors, Poll);

}  // namespace zeropoint::core
