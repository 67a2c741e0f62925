#include "targets.h"

#include <cstring>

#if defined(ZEROPOINT_X86) && defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#elif defined(ZEROPOINT_X86)
#include <cpuid.h>
#endif

namespace zeropoint::core {

extern const Table table_baseline;

namespace {

bool always() { return true; }

#if defined(ZEROPOINT_X86)
#if defined(_MSC_VER)
// __builtin_cpu_supports by hand: CPUID leaf 7, and whether the OS saves the wide registers.
bool has(int ebx_mask, unsigned long long xcr0_mask, int ecx_mask = 0) {
    int leaf1[4], leaf7[4];
    __cpuid(leaf1, 1);
    __cpuidex(leaf7, 7, 0);
    constexpr int osxsave_fma_f16c = 1 << 27 | 1 << 12 | 1 << 29;
    return (leaf1[2] & osxsave_fma_f16c) == osxsave_fma_f16c &&
           (_xgetbv(0) & xcr0_mask) == xcr0_mask && (leaf7[1] & ebx_mask) == ebx_mask &&
           (leaf7[2] & ecx_mask) == ecx_mask;
}
bool has_avx2() { return has(1 << 5, 0x6); }
bool has_avx512() { return has_avx2() && has(1 << 16 | 1 << 17 | 1 << 30 | 1 << 31, 0xE6); }
bool has_avx512vbmi() { return has_avx512() && has(0, 0xE6, 1 << 1); }
#else
bool has_f16c() {  // older Clang cannot be asked for it; that the OS saves the registers, AVX2 says
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512vbmi() { return has_avx512() && __builtin_cpu_supports("avx512vbmi"); }
#endif
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
