// Which ISAs there are, which this CPU runs, and their tables.
#pragma once

#include <cstddef>
#include <stdexcept>

#include "types.h"

namespace zeropoint::core {

struct Target {
    const char* name;
    bool (*supported)();
    const Table* table;
    bool vbmi;
};

/// Takes no memory: a call that must not throw may be the first to ask for it.
struct Targets {
    Target list[4];
    std::size_t count;
    const Target* begin() const noexcept { return list; }
    const Target* end() const noexcept { return list + count; }
    const Target& at(std::size_t i) const {
        if (i >= count) throw std::out_of_range("there are fewer ISAs");
        return list[i];
    }
};

/// All of them, best first; the last one is "baseline".  Two may have one name.
const Targets& compiled_targets() noexcept;
/// Those that this CPU can run.
const Targets& targets() noexcept;

}  // namespace zeropoint::core
