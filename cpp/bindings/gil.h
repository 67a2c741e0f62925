// A call of the core: without the GIL where it is large, and interrupted by Ctrl-C.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

#include "zeropoint/core.hpp"

namespace py = pybind11;
namespace zp = zeropoint::core;

namespace {

// Below this many elements a call is over before another thread could use the GIL: callers that
// take turns with it are faster than those that wake each other up.
#ifndef ZEROPOINT_RELEASE_GIL_FROM  // 0 in a check, where the smallest calls are to meet
#define ZEROPOINT_RELEASE_GIL_FROM 1 << 17
#endif
constexpr std::size_t release_gil_from = ZEROPOINT_RELEASE_GIL_FROM;

// Gives up the GIL while it lives.  A thread that asks for it back while the interpreter ends is
// unwound by force (CPython before 3.14), which no noexcept frame survives; it sleeps instead until
// the process is gone, as CPython itself has it from 3.14 on.
class WithoutGil {
public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { take(); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;
    bool no_signal() noexcept {
        take();
        const bool none = PyErr_CheckSignals() == 0;
        state_ = PyEval_SaveThread();
        return none;
    }

private:
    void take() noexcept {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
    PyThreadState* state_;
};

// Runs `work(poll)` on n elements.
template <class Work>
void call(std::size_t n, Work&& work) {
    if (n < release_gil_from) {
        work(zp::Poll{});
        return;
    }
    // To take the GIL can mean to wait for a busy thread's turn, so only now and then.
    using Clock = std::chrono::steady_clock;
    static constexpr auto between_checks = std::chrono::milliseconds(50);
    struct Context {
        WithoutGil released;
        Clock::time_point next{};  // none yet: small calls end before anyone asks for the time
    };
    const auto keep_going = [](void* pointer) {
        auto& context = *static_cast<Context*>(pointer);
        const Clock::time_point now = Clock::now();
        if (context.next == Clock::time_point{}) context.next = now + between_checks;
        if (now < context.next) return true;
        const bool fine = context.released.no_signal();
        context.next = Clock::now() + between_checks;
        return fine;
    };
    bool finished;
    {
        Context context;
        finished = work(zp::Poll{keep_going, &context});
    }
    if (!finished) throw py::error_already_set();
}

void check_isa(std::size_t isa) {
    if (isa >= zp::isas().size()) throw py::index_error("no such ISA");
}

}  // namespace
