// One loop per operation, in the headers of loops/.  This source is compiled once per ISA (see
// CMakeLists.txt) with ZEROPOINT_ISA set to its name; each object exports its table and nothing
// else.
#include "loops/elements.h"
#include "loops/errors.h"
#include "loops/histogram.h"
#include "loops/lookup.h"
#include "loops/mark.h"
#include "loops/min_max.h"
#include "loops/offset.h"
#include "loops/q8_0.h"
#include "loops/quantize.h"
#include "loops/strided.h"

namespace {

using zeropoint::core::Table;

constexpr Table make_table() {
    Table table{};
#if defined(ZEROPOINT_BESIDE)
    table.beside = &zeropoint::core::ZEROPOINT_BESIDE;
#if defined(__AVX512BW__)
#define ZP_SHARED_KERNEL(op, a, b)
#if !defined(ZEROPOINT_VBMI)
#define ZP_VBMI_KERNEL(op, a, b)
#endif
#endif
#define ZP_BASE_KERNEL(op, a, b)
#endif
#define ZP_OWN_KERNEL(op, a, b)                                                                   \
    table.kernels[static_cast<int>(Op::op)][static_cast<int>(Tag::a)][static_cast<int>(Tag::b)] = \
        &op<a, b>;
#if defined(ZEROPOINT_VBMI)
#define ZP_KERNEL(op, a, b)
#define ZP_VBMI_KERNEL ZP_OWN_KERNEL
#else
#define ZP_KERNEL ZP_OWN_KERNEL
#endif
#if defined(ZP_HAS_FMA)
    table.multiplies = true;
#endif
#include "kernels.def"
#undef ZP_KERNEL
#undef ZP_SHARED_KERNEL
#undef ZP_BASE_KERNEL
#undef ZP_VBMI_KERNEL
    return table;
}

#if !defined(ZEROPOINT_BESIDE)
// The table with none beside it lacks no kernel, whatever CPU it is compiled for.
constexpr bool is_complete(const Table& table) {
#define ZP_KERNEL(op, a, b)                                                \
    if (!table.kernels[static_cast<int>(Op::op)][static_cast<int>(Tag::a)] \
                      [static_cast<int>(Tag::b)])                          \
        return false;
#include "kernels.def"
#undef ZP_KERNEL
    return true;
}
static_assert(is_complete(make_table()), "the baseline lacks a kernel");
#endif

constexpr bool has_kernel(Op op, Tag a, Tag b) {
#define ZP_KERNEL(op_, a_, b_) \
    if (op == Op::op_ && a == Tag::a_ && b == Tag::b_) return true;
#include "kernels.def"
#undef ZP_KERNEL
    return false;
}

// Every convention can quantize; the other kernels may be null, and callers check.
#define ZEROPOINT_CONVENTION(name)                                   \
    static_assert(has_kernel(Op::quantize, Tag::f32, Tag::name) &&   \
                      has_kernel(Op::quantize, Tag::f64, Tag::name), \
                  #name " lacks a row of quantize in kernels.def");
#include "zeropoint/conventions.def"

// Narrow floats are widened to f32, and rounded once from f32 and f64.
constexpr bool converts_narrow_floats() {
    for (int i = 0; i < static_cast<int>(Tag::f32); ++i) {
        const Tag t = static_cast<Tag>(i);
        if (!has_kernel(Op::convert, t, Tag::f32) || !has_kernel(Op::convert, Tag::f32, t) ||
            !has_kernel(Op::convert, Tag::f64, t) || !has_kernel(Op::histogram, t, Tag::f32))
            return false;
    }
    return true;
}
static_assert(converts_narrow_floats(), "a float lacks a row of convert or of histogram");

}  // namespace

#define ZP_JOIN2(a, b) a##b
#define ZP_JOIN(a, b) ZP_JOIN2(a, b)
namespace zeropoint::core {
extern const Table ZP_JOIN(table_, ZEROPOINT_ISA);
const Table ZP_JOIN(table_, ZEROPOINT_ISA) = make_table();
}  // namespace zeropoint::core
