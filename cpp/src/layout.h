// From a Layout to Jobs: the one walk over the layout, the staging of several kernels through L1,
// threads, and polling.
#pragma once

#include <cstddef>

#include "types.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// A kernel and its parameters: `scale`, `zero` and `state` point to one element of
/// `parameter_size` bytes for each parameter of the layout (null where the kernel takes none).
/// Without initial values: a call of one element would feel those of stages that it has not.
struct Stage {
    Kernel kernel;
    std::size_t in_size, out_size;  // bytes an element
    const void* scale;
    const void* zero;
    State state;
    std::size_t parameter_size;
    bool unrepeatable;  // whether the parameters of short runs must not be repeated
    std::int64_t low, high;
    bool non_temporal;
    /// Where not 0: elements that are done at once, but never a part of those of one parameter.
    std::size_t group;
    void* context;
    /// For a reduction: adds `copies` states, each a row of axis * inner elements, to `state`.
    void (*fold)(const Layout&, std::size_t copies, const State& from, const State& state);
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
