#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "machine.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define ZEROPOINT_HAS_FORK
#endif

namespace zeropoint::core {

namespace {

constexpr std::size_t max_threads = 64;

// Some 20 us of waiting awake: a sleeping thread takes longer than that to come back.  Whoever
// waits longer than a moment offers the CPU to others, who may be those that it waits for.
constexpr int moment = 1 << 7, awake = 1 << 8;

inline void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

inline void wait_awake(int turn) noexcept { turn < moment ? pause() : std::this_thread::yield(); }

// How a call is handed to the helpers.  `door_` is one word: the number of the call, how many
// helpers have a place in it, and how many are inside.
//
// - The caller, who alone has the pool (`taken_`), writes `work_` and `context_`, and then opens
// the
//   door: the next number, places for as many as it wants, nobody inside.
// - Helper i comes in, by a compare-exchange that adds one to those inside, if it sees a number
// that
//   it has not worked for and more than i places.  Only inside does it read `work_` and `context_`.
//   It does one piece of the work and goes out again, then comes in for the next.
// - When the caller finds no work left it shuts the door, that is, takes away all places, and waits
//   until nobody is inside.
//
// So a helper that never wakes, or whom the system puts aside between two pieces, is not waited
// for. Whoever comes late finds another word: numbers do not come again (2^48 calls), so its
// compare-exchange fails, and it touches nothing of a call that is over.  The opening store and the
// helper's compare-exchange, and its going out and the caller's last look, are release and acquire:
// each sees what the other wrote.  Every change in between is a read-modify-write, which keeps that
// order.
//
// A fork by the caller's own thread, from a signal's handler, shuts the door first.  In the child
// no helper exists: whether the door is open or shut, nobody is inside it and nobody comes in.
class Pool {
public:
    void run(std::size_t threads, Work work, void* context) {
        // not a mutex: in a signal's handler the thread that has the pool may come here again
        if (taken_.exchange(true, std::memory_order_acquire)) return alone(work, context);
        owner_ = std::this_thread::get_id();
        start(std::min(threads, max_threads) - 1);
        work_ = work;
        context_ = context;
        const std::uint64_t number = (door_.load(std::memory_order_relaxed) / one_call) + 1;
        const std::size_t places = std::min(started_, threads - 1);
        door_.store(number * one_call + places * one_place);
        if (places > 0 && sleepers_.load() > 0) {
            const std::lock_guard<std::mutex> lock(sleep_);
            wake_.notify_all();
        }
        alone(work, context);
        shut_door();
        owner_ = std::thread::id();
        taken_.store(false, std::memory_order_release);
    }

    void prepare_fork() noexcept {
        if (owner_ == std::this_thread::get_id()) shut_door();
    }

private:
    static constexpr std::uint64_t one_inside = 1, one_place = 1 << 8, one_call = 1 << 16;
    static_assert(max_threads < one_place, "so many have places, and are inside");

    static std::uint64_t places(std::uint64_t door) { return door % one_call / one_place; }
    static std::uint64_t inside(std::uint64_t door) { return door % one_place; }

    static void alone(Work work, void* context) {
        while (work(context, 0)) continue;
    }

    void shut_door() noexcept {
        door_.fetch_and(~(one_call - one_place), std::memory_order_relaxed);
        for (int i = 0; inside(door_.load(std::memory_order_acquire)) > 0; ++i) wait_awake(i);
    }

    bool come_in(std::size_t helper, std::uint64_t number) noexcept {
        std::uint64_t door = door_.load(std::memory_order_relaxed);
        while (door / one_call == number && helper < places(door))
            if (door_.compare_exchange_weak(door, door + one_inside, std::memory_order_acquire,
                                            std::memory_order_relaxed))
                return true;
        return false;
    }

    void start(std::size_t wanted) {
        while (started_ < wanted) {
            try {
                std::thread(&Pool::serve, this, started_, door_.load() / one_call).detach();
            } catch (const std::exception&) {
                return;  // no more threads, or no memory for one, to be had: fewer do the work
            }
            ++started_;
        }
    }

    void serve(std::size_t helper, std::uint64_t number) {
        for (;;) {
            number = next_call(number);
            for (bool more = true; more && come_in(helper, number);) {
                more = work_(context_, helper + 1);
                door_.fetch_sub(one_inside, std::memory_order_release);
            }
        }
    }

    std::uint64_t next_call(std::uint64_t last) {
        const auto number = [&] { return door_.load() / one_call; };
        for (int i = 0; i < awake; ++i) {
            if (const std::uint64_t now = number(); now != last) return now;
            wait_awake(i);
        }
        std::unique_lock<std::mutex> lock(sleep_);
        ++sleepers_;  // before the last check: either we see the call or the caller sees us
        wake_.wait(lock, [&] { return number() != last; });
        --sleepers_;
        return number();
    }

    std::atomic<bool> taken_{false};
    // Not a thread_local: memory for one is taken at its first use, and its lack ends the process.
    std::atomic<std::thread::id> owner_{std::thread::id()};
    std::size_t started_ = 0;
    Work work_ = nullptr;
    void* context_ = nullptr;
    std::atomic<std::uint64_t> door_{0};
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
                if (Pool* parents = the_pool.load(std::memory_order_acquire))
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

std::atomic<std::size_t> named{0};

}  // namespace

void set_num_threads(std::size_t n) noexcept { named = std::min(n, max_threads); }

std::size_t get_num_threads() noexcept {
    static const std::size_t automatic = std::min(usable_cpus(), max_threads);
    const std::size_t n = named;
    return n ? n : automatic;
}

void run_in_threads(std::size_t threads, Work work, void* context) noexcept {
    Pool* const found = threads > 1 ? pool() : nullptr;
    if (found) return found->run(threads, work, context);
    while (work(context, 0)) continue;
}

}  // namespace zeropoint::core
