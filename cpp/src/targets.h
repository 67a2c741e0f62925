// Which ISAs there are, which this CPU runs, and their tables.
#pragma once

#include <cstddef>
#include <vector>

#include "types.h"

namespace zeropoint::core {

struct Target {
    const char* name;
    bool (*supported)();
    const Table* table;
};

/// All of them, best first; the last one is "baseline".
const std::vector<Target>& compiled_targets();
/// Those that this CPU can run.
const std::vector<Target>& targets();

}  // namespace zeropoint::core
