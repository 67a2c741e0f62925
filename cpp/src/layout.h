// From a Layout to Jobs: the one walk over the layout, the staging of several kernels through L1,
// threads, and polling.
#pragma once

#include <cstddef>

#include "types.h"
#include "views.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

constexpr std::size_t staged = 1 << 13;  // bytes that go through L1 at a time, in their widest form

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
    /// Where there is one: after the kernel, over the elements that it has read and written.
    Kernel mark;
    std::int64_t marked;  ///< its code
    /// For a reduction: adds `copies` states, each a row of axis * inner elements, to `state`.
    void (*fold)(const Layout&, std::size_t copies, const State& from, const State& state);
};

/// `rows` x `cols` contiguous elements from `element` on, parameters from `parameter` on.
struct Tile {
    std::size_t element, rows, cols, parameter;
    bool per_column;
};

/// What one stage hands on to the next.
using Buffers = char[2][staged];

/// Runs the kernel of a stage, and its mark.
void run_stage(const Stage&, const Job&) noexcept;

/// How many elements that is.
std::size_t staged_elements(const Stage* stages, std::size_t count) noexcept;

/// `offset` bytes from `first`, null where that is.
inline const void* at(const void* first, std::size_t offset) noexcept {
    return first ? static_cast<const char*>(first) + offset : nullptr;
}
inline void* at(void* first, std::size_t offset) noexcept {
    return first ? static_cast<char*>(first) + offset : nullptr;
}

/// Runs the stages over a tile whose elements are at `in`, at most `staged_elements` of them if
/// there are several stages.  Results go to `out`, null for reductions.
void run_stages(const Stage* stages, std::size_t count, const Tile&, const char* in, char* out,
                Buffers& buffers) noexcept;

/// Elements that share one parameter as a contiguous run; 0 where parameters go by the column.
std::size_t run_length(const Layout&) noexcept;

/// Where the elements are: side by side from `in` and `out` on, or where `walk` says.
struct Places {
    const void* in;
    void* out;
    const Walk* walk;
};

/// Whether non-temporal stores are better for the results of a call.
bool stores_past_caches(const Layout&, const Stage& first, const Stage& last,
                        const Places&) noexcept;

/// Runs the stages, in several threads if it is worth while, one after the other over the whole
/// layout, a chunk at a time if there are several. False if `poll` stopped it.
bool run(const Layout&, const Places&, const Stage* stages, std::size_t count, Poll) noexcept;

}  // namespace zeropoint::core
