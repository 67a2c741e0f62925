#include "targets.h"

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
bool has(int ebx_mask, unsigned long long xcr0_mask) {
    int leaf1[4], leaf7[4];
    __cpuid(leaf1, 1);
    __cpuidex(leaf7, 7, 0);
    constexpr int osxsave_fma_f16c = 1 << 27 | 1 << 12 | 1 << 29;
    return (leaf1[2] & osxsave_fma_f16c) == osxsave_fma_f16c &&
           (_xgetbv(0) & xcr0_mask) == xcr0_mask && (leaf7[1] & ebx_mask) == ebx_mask;
}
bool has_avx2() { return has(1 << 5, 0x6); }
bool has_avx512() { return has_avx2() && has(1 << 16 | 1 << 17 | 1 << 30 | 1 << 31, 0xE6); }
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
#endif
#endif

}  // namespace

#if defined(ZEROPOINT_X86)
extern const Table table_avx512, table_avx2;
#endif

namespace {

// Best first.  A new ISA is a row here and a line in CMakeLists.txt.
constexpr Target rows[] = {
#if defined(ZEROPOINT_X86)
    {"avx512", has_avx512, &table_avx512},
    {"avx2", has_avx2, &table_avx2},
#endif
    {"baseline", always, &table_baseline},
};

Targets those(bool (*wanted)(const Target&)) noexcept {
    Targets found{};
    static_assert(sizeof rows <= sizeof found.list, "make the list longer");
    for (const Target& target : rows)
        if (wanted(target)) found.list[found.count++] = target;
    return found;
}

}  // namespace

const Targets& compiled_targets() noexcept {
    static const Targets all = those([](const Target&) { return true; });
    return all;
}

const Targets& targets() noexcept {
    static const Targets found = those([](const Target& target) { return target.supported(); });
    return found;
}

}  // namespace zeropoint::core
