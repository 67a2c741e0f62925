// A small pool of waiting threads.
//
// It starts at the first large call and its threads wait for the next one, awake for a moment and
// then asleep.  One call at a time has the pool; a caller that finds it taken works alone.  A
// thread that has not woken when the work is done is not waited for.  After a fork the child starts
// a pool of its own; a fork by the thread that has the pool, from a signal's handler in mid-call,
// waits for those that are at work.  It is never torn down: at exit its threads sleep.
#pragma once

#include <cstddef>

#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// Does a piece of a call's work as thread `thread`; false where nothing is left to do.
using Work = bool (*)(void* context, std::size_t thread);

/// Calls work(context, i), until that says false, for i = 0 in this thread and, as far as threads
/// are to be had, for i = 1 .. threads - 1 in others; returns when all is done.  `work` must not
/// throw.  Pieces should be short: what the system may do to a thread in the middle of one, the
/// others must wait for.
void run_in_threads(std::size_t threads, Work work, void* context) noexcept;

}  // namespace zeropoint::core
