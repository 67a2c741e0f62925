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

/// The targets this CPU can run, best first; the last one is always "baseline".
const std::vector<Target>& targets();

}  // namespace zeropoint::core
