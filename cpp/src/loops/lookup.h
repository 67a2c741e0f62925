// Bytes replaced by what a table of 256 bytes has for each of them.
#pragma once

#include "loops/run.h"

namespace {

constexpr size_t table_bytes = 256;

inline void look_up_each(const u8* x, u8* y, size_t n, const u8* table) {
    for (size_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

// job.scale: a table for each row, or for each column.
template <class, class>
void lookup(const Job& job) noexcept {
    const u8* x = static_cast<const u8*>(job.in);
    u8* y = static_cast<u8*>(job.out);
    const u8* tables = static_cast<const u8*>(job.scale);
    if (!job.per_column) {
        for (size_t r = 0; r < job.rows; ++r, x += job.cols, y += job.cols, tables += table_bytes)
            look_up_each(x, y, job.cols, tables);
        return;
    }
    for (size_t r = 0; r < job.rows; ++r, x += job.cols, y += job.cols)
        for (size_t c = 0; c < job.cols; ++c) y[c] = tables[c * table_bytes + x[c]];
}

}  // namespace
