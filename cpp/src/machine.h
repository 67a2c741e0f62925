// What the core asks the system: CPUs, caches, pages.  It does so without stdio, which wants
// memory: where that is short the answers are the same.
#pragma once

#include <cstddef>

namespace zeropoint::core {

/// CPUs that this process may use, by its affinity and its cgroup's quota; at least 1.
std::size_t usable_cpus() noexcept;

/// Bytes of the last-level cache of one CPU, which others may share; 0 where the system does not
/// say.
std::size_t last_level_cache() noexcept;

/// Whether the memory there has a page yet.  Where it has not, the system makes one when it is
/// first written to, and leaves it in the caches.  True where the system does not say.
bool has_page(const void* memory) noexcept;

}  // namespace zeropoint::core
