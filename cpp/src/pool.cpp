#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define ZEROPOINT_HAS_FORK
#endif

namespace zeropoint::core {

namespace {

constexpr std::size_t max_threads = 64;

// About 20 us of waiting awake: a sleeping thread takes longer than that to come back.
constexpr int spins = 1 << 12;

inline void pause() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("yield");
#endif
}

class Pool {
public:
    void run(std::size_t threads, void (*work)(void*, std::size_t), void* context) {
        // not a mutex: in a signal's handler the thread that has the pool may come here again
        if (taken_.exchange(true, std::memory_order_acquire)) return work(context, 0);
        calling = true;
        start(std::min(threads, max_threads) - 1);
        const std::size_t helpers = std::min(started_, threads - 1);
        work_ = work;
        context_ = context;
        running_.store(helpers, std::memory_order_relaxed);
        // the number of the call and of its helpers change together, so that a thread that comes
        // late can tell whether this call is its own
        call_.store(((call_.load(std::memory_order_relaxed) >> 8) + 1) << 8 | helpers);
        if (sleepers_.load() > 0) {
            const std::lock_guard<std::mutex> lock(sleep_);
            wake_.notify_all();
        }
        work(context, 0);
        await_helpers();
        calling = false;
        taken_.store(false, std::memory_order_release);
    }

    // Before a fork.  Where a signal's handler forks in mid-call, the child goes on with the call
    // in this thread alone: the helpers must have done what they took, for nobody else will.
    void prepare_fork() const noexcept {
        if (calling) await_helpers();
    }

private:
    void await_helpers() const noexcept {
        for (int i = 0; running_.load(std::memory_order_acquire) > 0; ++i)
            i < spins ? pause() : std::this_thread::yield();
    }

    void start(std::size_t wanted) {
        while (started_ < wanted) {
            try {
                std::thread(&Pool::serve, this, started_, call_.load()).detach();
            } catch (const std::exception&) {
                return;  // no more threads, or no memory for one, to be had: fewer do the work
            }
            ++started_;
        }
    }

    void serve(std::size_t number, std::uint64_t seen) {
        for (;;) {
            seen = next_call(seen);
            if (number < (seen & 0xFF)) {
                work_(context_, number + 1);
                running_.fetch_sub(1, std::memory_order_release);
            }
        }
    }

    std::uint64_t next_call(std::uint64_t seen) {
        for (int i = 0; i < spins; ++i) {
            const std::uint64_t call = call_.load(std::memory_order_acquire);
            if (call != seen) return call;
            pause();
        }
        std::unique_lock<std::mutex> lock(sleep_);
        ++sleepers_;  // before the last look: either we see the call or the caller sees us
        wake_.wait(lock, [&] { return call_.load() != seen; });
        --sleepers_;
        return call_.load();
    }

    static thread_local bool calling;  // whether this thread has the pool, or had it when it forked

    std::atomic<bool> taken_{false};
    std::size_t started_ = 0;
    void (*work_)(void*, std::size_t) = nullptr;
    void* context_ = nullptr;
    std::atomic<std::size_t> running_{0};
    std::atomic<std::uint64_t> call_{0};  // its number, and in the low byte its helpers
    std::atomic<int> sleepers_{0};
    std::mutex sleep_;
    std::condition_variable wake_;
};

thread_local bool Pool::calling = false;

std::atomic<Pool*> the_pool{nullptr};

Pool* pool() noexcept {  // null where there is no memory for one
    Pool* found = the_pool.load(std::memory_order_acquire);
    if (found) return found;
#if defined(ZEROPOINT_HAS_FORK)
    // the child has none of the threads, so it forgets the pool; what that held is left to it
    static const int registered = pthread_atfork(
        [] {
            if (const Pool* parents = the_pool.load(std::memory_order_acquire))
                parents->prepare_fork();
        },
        nullptr, [] { the_pool.store(nullptr, std::memory_order_release); });
    static_cast<void>(registered);
#endif
    Pool* mine = new (std::nothrow) Pool;
    if (!mine || the_pool.compare_exchange_strong(found, mine)) return mine;
    delete mine;
    return found;
}

// CPUs that the cgroup's quota comes to (version 2), at least 1; many where there is no quota.
std::size_t quota() noexcept {
    std::size_t cpus = max_threads;
#if defined(__linux__)
    if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        unsigned long long microseconds = 0, period = 0;
        if (std::fscanf(file, "%llu %llu", &microseconds, &period) == 2 && period > 0)
            cpus = static_cast<std::size_t>(std::max(1ULL, microseconds / period));
        std::fclose(file);
    }
#endif
    return cpus;
}

std::size_t usable_cpus() noexcept {
    std::size_t cpus = std::max(1U, std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
#endif
    return std::min({cpus, quota(), max_threads});
}

std::atomic<std::size_t> named{0};

}  // namespace

void set_num_threads(std::size_t n) noexcept { named = std::min(n, max_threads); }

std::size_t get_num_threads() noexcept {
    static const std::size_t automatic = usable_cpus();
    const std::size_t n = named;
    return n ? n : automatic;
}

void run_in_threads(std::size_t threads, void (*work)(void*, std::size_t), void* context) noexcept {
    Pool* const found = threads < 2 ? nullptr : pool();
    if (!found) return work(context, 0);
    found->run(threads, work, context);
}

}  // namespace zeropoint::core
