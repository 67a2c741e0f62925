#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
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
        owner_ = std::this_thread::get_id();
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
        owner_ = std::thread::id();
        taken_.store(false, std::memory_order_release);
    }

    // Before a fork.  Where a signal's handler forks in mid-call, the child goes on with the call
    // in this thread alone: the helpers must have done what they took, for nobody else will.
    void prepare_fork() const noexcept {
        if (owner_ == std::this_thread::get_id()) await_helpers();
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
        ++sleepers_;  // before the last check: either we see the call or the caller sees us
        wake_.wait(lock, [&] { return call_.load() != seen; });
        --sleepers_;
        return call_.load();
    }

    std::atomic<bool> taken_{false};
    // Not a thread_local: memory for one is taken at its first use, and its lack ends the process.
    std::atomic<std::thread::id> owner_{std::thread::id()};
    std::size_t started_ = 0;
    void (*work_)(void*, std::size_t) = nullptr;
    void* context_ = nullptr;
    std::atomic<std::size_t> running_{0};
    std::atomic<std::uint64_t> call_{0};  // its number, and in the low byte its helpers
    std::atomic<int> sleepers_{0};
    std::mutex sleep_;
    std::condition_variable wake_;
};

std::atomic<Pool*> the_pool{nullptr};

Pool* pool() noexcept {  // null where there is no memory for one
    Pool* found = the_pool.load(std::memory_order_acquire);
    if (found) return found;
#if defined(ZEROPOINT_HAS_FORK)
    // the child has none of the threads, so it forgets the pool; what that held is left to it
    static std::atomic<bool> registered{false};  // twice does no harm
    if (!registered) {
        const int error = pthread_atfork(
            [] {
                if (const Pool* parents = the_pool.load(std::memory_order_acquire))
                    parents->prepare_fork();
            },
            nullptr, [] { the_pool.store(nullptr, std::memory_order_release); });
        if (error) return nullptr;  // no memory: a pool that forks would break
        registered = true;
    }
#endif
    Pool* mine = new (std::nothrow) Pool;
    if (!mine || the_pool.compare_exchange_strong(found, mine)) return mine;
    delete mine;
    return found;
}

// CPUs that the cgroup's quota comes to (version 2), at least 1; many where there is no quota.
// Without stdio, which wants memory: where that is short the quota holds all the same.
std::size_t quota() noexcept {
    std::size_t cpus = max_threads;
#if defined(__linux__)
    const int file = open("/sys/fs/cgroup/cpu.max", O_RDONLY | O_CLOEXEC);
    if (file < 0) return cpus;
    char text[64] = {};  // microseconds and their period, or "max" and it
    if (read(file, text, sizeof text - 1) > 0) {
        char* rest = text;
        const unsigned long long microseconds = std::strtoull(text, &rest, 10);
        const unsigned long long period = std::strtoull(rest, nullptr, 10);
        if (rest != text && period > 0)
            cpus = static_cast<std::size_t>(std::max(1ULL, microseconds / period));
    }
    close(file);
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
