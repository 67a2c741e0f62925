// The floating-point state that the loops need: round to nearest, no flush to zero, exceptions
// masked.  The host's own state is put back when the guard goes.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64) || defined(__SSE2__)
#define ZEROPOINT_HAS_MXCSR
#include <xmmintrin.h>
#endif

#include "arithmetic.h"

namespace zeropoint::core {

/// Orders streaming stores before what the caller does next.
inline void fence_streams() noexcept {
#if defined(ZEROPOINT_HAS_MXCSR)
    _mm_sfence();
#endif
}

class FpGuard {
public:
    FpGuard() noexcept : host_(enter()) {}
    ~FpGuard() { leave(host_); }
    FpGuard(const FpGuard&) = delete;
    FpGuard& operator=(const FpGuard&) = delete;

    static std::uint64_t enter() noexcept {
        const State host = read();
        if (host != needed) write(needed);
        return host;
    }
    // Where the flags are in the same register, as in MXCSR, these too: the host's are neither lost
    // nor raised.
    static void leave(std::uint64_t host) noexcept { write(static_cast<State>(host)); }

private:
#if defined(ZEROPOINT_HAS_MXCSR)
    using State = unsigned;
    static constexpr State needed = 0x1F80;
    static State read() noexcept { return _mm_getcsr(); }
    static void write(State state) noexcept { _mm_setcsr(state); }
#elif defined(__aarch64__)
    using State = std::uint64_t;
    static constexpr State needed = 0;
    static State read() noexcept {
        State state;
        __asm__ volatile("mrs %0, fpcr" : "=r"(state));
        return state;
    }
    static void write(State state) noexcept {
        __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory");
    }
#else
    using State = unsigned;
    static constexpr State needed = 0;
    static State read() noexcept { return 0; }
    static void write(State) noexcept {}
#endif
    std::uint64_t host_;
};

}  // namespace zeropoint::core
