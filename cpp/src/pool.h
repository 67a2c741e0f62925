// A small pool of waiting threads.
//
// It starts at the first large call and its threads wait for the next one, awake for a moment and
// then asleep.  One call at a time has the pool; a caller that finds it taken works alone.  After
// a fork the child starts a pool of its own; a fork by the thread that has the pool, from a
// signal's handler in mid-call, waits for the helpers.  It is never torn down: at exit its threads
// sleep.
#pragma once

#include <cstddef>

#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// Calls work(context, i) for i = 0 in this thread and, as far as threads are to be had, for
/// i = 1 .. threads - 1 in others; returns when all of them have.  `work` must not throw.
void run_in_threads(std::size_t threads, void (*work)(void*, std::size_t), void* context) noexcept;

}  // namespace zeropoint::core
