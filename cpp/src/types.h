// Words shared by the loops and by those who call them: element types, operations, Job, Table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arithmetic.h"

namespace zeropoint::core {

// What a kernel can be made for.  The element types stand in the order of the public DType.
enum class Tag : std::uint8_t {
    f16,
    bf16,
    f32,
    f64,
    i8,
    u8,
    i16,
    u16,
    i32,
    u32,
    i64,
    u64,  // element types
#define ZEROPOINT_CONVENTION(name) name,
#include "zeropoint/conventions.def"
    even,
    away,  // tie rules
    count
};

enum class Op : std::uint8_t {
    quantize,
    quantize_runs,
    certify,
    dequantize,
    fake_quantize,
    quantize_offset,
    dequantize_offset,
    fake_quantize_offset,
    to_q8_0,
    from_q8_0,
    convert,
    saturate,
    round,
    min_max,
    min_max_present,
    histogram,
    gather,
    scatter,
    transpose,
    swap_bytes,
    clipped,
    clipped_offset,
    errors,
    tally,
    fewest,
    mark,
    lookup,
    count
};

// How quantize_runs does without a division, one per parameter; made by certify (scalar.h).
struct Multiplier {
    float scale, zero, ch, cl;
    float x_low, x_high;  // beyond these every code is the first or the last; x is clipped to them
    std::uint32_t certified;  // 0: divide
};

// The arithmetic of parameters with an offset o and a scale, or a span, s: what is the same for all
// elements.  A code is (x - o) / s * steps, clipped to [first, last], then truncated or rounded to
// even, plus `word`; its value is (code - shift) / divisor * s + o, whose last two operations are
// rounded apart, or `once` (float32 alone).
struct OffsetForm {
    double steps, first, last;
    double reach;  // from reach * s on, every x - o has the last code
    double shift, divisor;
    int word;
    bool truncates, once;
};

// How many elements lie in each bin of 2^exponent, that of bin t (scalar.h) at counts[t mod bins];
// and their minimum and maximum, as min_max has them.
struct Histogram {
    static constexpr std::size_t bins = 4096;
    double low, high;
    std::int64_t exponent;
    std::int64_t counts[bins];
};

// Sums over pairs of x and x', those of float64 numbers in the order of _reference.errors.
struct ErrorSums {
    static constexpr std::size_t lanes = 8;  // lane j has the elements j, j + 8, ... of a chunk
    static constexpr std::size_t chunk = 1024;
    double worst, absolute, noise, signal, back,
        dot;  // |e|: maximum and sum; e e, x x, x' x', x x'
};

// What `errors` and `tally` take beside x, and what they find: one tile of at most a chunk.
struct ErrorTile {
    const void* back;     // x', of the type of x
    double inverse_unit;  // float64 x and x' are multiplied by it
    ErrorSums sums;
    const std::uint8_t* codes;
    const std::uint32_t* rows;  // for each element, where the counts of its channel begin
    std::uint32_t* counts;      // of the nonzero elements with each code
    std::uint32_t spare;        // where `spares` counts are that nobody reads
    std::uint8_t* zeros;        // for each code, whether an element that is zero has it
    static constexpr std::uint32_t spares = 64;
};

// The first and the last x whose code is not clipped; NaN where there is none.
struct Unclipped {
    bool known = false;
    double first = 0, last = 0;
};

// What a reduction has found so far, an element per parameter: min_max and min_max_present minima
// in the first array and maxima in the second, histogram a Histogram in the first.  clipped adds to
// one i64 for all, and finds an Unclipped in the second array once for all calls with it; errors
// and tally have an ErrorTile, and fewest writes two i64: the sum, and how many make it up.
using State = void* [2];

// rows x cols contiguous elements.  Parameters and state: one per row, or with `per_column` one per
// column that all rows share.
struct Job {
    const void* in = nullptr;
    void* out = nullptr;
    std::size_t rows = 0, cols = 0;
    const void* scale = nullptr;
    const void* zero = nullptr;
    State state = {};
    bool per_column = false;
    std::int64_t low = 0, high = 0;  // bounds of codes or values; bytes between what is moved
    bool non_temporal = false;       // store results so that they do not pass through the caches
    // what a function in a kernel's place has to know; an OffsetForm where values come of codes and
    // an offset
    void* context = nullptr;
};

using Kernel = void (*)(const Job&) noexcept;

constexpr int op_count = static_cast<int>(Op::count);
constexpr int tag_count = static_cast<int>(Tag::count);

struct Table {
    const Table* beside;  // that has the kernels which this one lacks, or null
    bool multiplies;  // whether certify and quantize_runs can do without the division: there is FMA
    Kernel kernels[op_count][tag_count][tag_count];
    Kernel at(Op op, Tag a, Tag b) const noexcept {
        const Kernel own = kernels[static_cast<int>(op)][static_cast<int>(a)][static_cast<int>(b)];
        return own || !beside ? own : beside->at(op, a, b);
    }
};

}  // namespace zeropoint::core
