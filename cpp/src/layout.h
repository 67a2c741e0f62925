// From a Layout to Jobs: the one walk over the layout, the staging of several kernels through L1,
// threads, and polling.
#pragma once

#include <cstddef>

#include "types.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// A kernel and its parameters: `scale`, `zero` and `state` point to one element of
/// `parameter_size` bytes for each parameter of the layout (null where the kernel takes none).
struct Stage {
    Kernel kernel = nullptr;
    std::size_t in_size = 0, out_size = 0;  // bytes an element
    const void* scale = nullptr;
    const void* zero = nullptr;
    State state = {};
    std::size_t parameter_size = 0;
    bool repeatable = true;  // whether short runs may have their parameters repeated
    std::int64_t low = 0, high = 0;
    bool non_temporal = false;
    /// For a reduction: adds `copies` states, each a row of axis * inner elements, to `state`.
    void (*fold)(const Layout&, std::size_t copies, const State& from,
                 const State& state) = nullptr;
};

/// Bytes read and written from which on non-temporal stores are better.
std::size_t non_temporal_from() noexcept;

/// Elements that share one parameter as a contiguous run; 0 where parameters go by the column.
std::size_t run_length(const Layout&) noexcept;

/// Runs the stages, in several threads if it is worth while, one after the other over the whole
/// layout, a chunk at a time if there are several. False if `poll` stopped it.
bool run(const Layout&, const void* in, void* out, const Stage* stages, std::size_t count,
         Poll) noexcept;

}  // namespace zeropoint::core
