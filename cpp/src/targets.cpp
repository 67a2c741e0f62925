#include "targets.h"

#include <cstring>

#if defined(ZEROPOINT_X86)
#include <cpuid.h>
#endif

namespace zeropoint::core {

extern const Table table_baseline;

namespace {

bool always() { return true; }

#if defined(ZEROPOINT_X86)
// What CPUID says, and which registers the system saves (XCR0).  Not __builtin_cpu_supports: older
// Clang cannot be asked for F16C, and clang-cl finds no library for it.
struct Cpu {
    unsigned basic = 0, wide = 0, more = 0, saved = 0;
    Cpu() noexcept {
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        if (!__get_cpuid(1, &eax, &ebx, &basic, &edx) || !(basic & bit_OSXSAVE)) return;
        __asm__ volatile("xgetbv" : "=a"(saved), "=d"(edx) : "c"(0));
        if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) wide = ebx, more = ecx;
    }
    bool has(unsigned basic_bits, unsigned wide_bits, unsigned saved_bits) const noexcept {
        return (basic & basic_bits) == basic_bits && (wide & wide_bits) == wide_bits &&
               (saved & saved_bits) == saved_bits;
    }
};
const Cpu& cpu() noexcept {
    static const Cpu found;
    return found;
}
bool has_avx2() { return cpu().has(bit_AVX | bit_FMA | bit_F16C, bit_AVX2, 0x06); }
bool has_avx512() {
    return has_avx2() &&
           cpu().has(0, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ, 0xE6);
}
bool has_avx512vbmi() { return has_avx512() && (cpu().more & bit_AVX512VBMI) != 0; }
#endif

}  // namespace

#if defined(ZEROPOINT_X86)
extern const Table table_avx512vbmi, table_avx512, table_avx2;
#endif

namespace {

// Best first.  A new ISA is a row here and a line in CMakeLists.txt.  Of rows with one name a CPU
// has the first that it can run.
constexpr Target rows[] = {
#if defined(ZEROPOINT_X86)
    {"avx512", has_avx512vbmi, &table_avx512vbmi, true},
    {"avx512", has_avx512, &table_avx512, false},
    {"avx2", has_avx2, &table_avx2, false},
#endif
    {"baseline", always, &table_baseline, false},
};

Targets those(bool (*wanted)(const Target&, const Targets& before)) noexcept {
    Targets found{};
    static_assert(sizeof rows <= sizeof found.list, "make the list longer");
    for (const Target& target : rows)
        if (wanted(target, found)) found.list[found.count++] = target;
    return found;
}

bool is_named_last(const Target& target, const Targets& in) {
    return in.count && std::strcmp(in.list[in.count - 1].name, target.name) == 0;
}

}  // namespace

const Targets& compiled_targets() noexcept {
    static const Targets all = those([](const Target&, const Targets&) { return true; });
    return all;
}

const Targets& targets() noexcept {
    static const Targets found = those([](const Target& target, const Targets& before) {
        return !is_named_last(target, before) && target.supported();
    });
    return found;
}

}  // namespace zeropoint::core
