// The same bits for any number of threads, from many callers at once, while the number changes,
// while threads of the pool do not get a CPU, and in children of a process that has threads.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "pool.h"
#include "sample.hpp"
#include "zeropoint/zeropoint.h"
#include "zeropoint/zeropoint.hpp"

#if defined(__linux__)
#include <dirent.h>
#include <sys/syscall.h>
#endif

#if defined(__unix__) || defined(__APPLE__)
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#define ZEROPOINT_TEST_HAS_FORK
#endif

namespace test {

namespace {

void test_any_number(const std::vector<Sample>& samples) {
    for (std::size_t n = 1; n <= 8; ++n) {
        core::set_num_threads(n);
        check(core::get_num_threads() == n, "get_num_threads is what was set");
        for (const Sample& sample : samples) {
            const Parameters p(sample.call);
            const std::size_t isa = options.isas[n % options.isas.size()];
            check_right(sample, p, isa, " in " + std::to_string(n) + " threads");
        }
    }
    core::set_num_threads(0);
    check(core::get_num_threads() >= 1, "0 means a number chosen by the core");
}

// Eight callers are the first to use what the process has one of: the ISAs, the number of threads,
// the environment, and the pool with its handlers of forks.
void test_first_use() {
    const Call call = call_of(Op::quantize, DType::f32, DType::u8, tensor(480007));
    const Parameters p(call);
    const std::vector<float> in(call.layout.size(), 99.6f);  // no oracle, which calls the core too
    std::atomic<int> waiting{8};
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([&] {
            for (--waiting; waiting > 0;) std::this_thread::yield();
            check(core::get_num_threads() >= 1, "get_num_threads at its first use");
            std::vector<unsigned char> out(in.size());
            check(run(call, p, options.isas[0], in.data(), out.data()) &&
                      std::count(out.begin(), out.end(), 100) == std::ptrdiff_t(out.size()),
                  "quantize at the first use of all");
        });
    for (std::thread& caller : callers) caller.join();
}

// Eight callers share parameters that nobody has used before, so that they meet at the first use,
// where casts and proofs are made.
void test_callers(const std::vector<Sample>& samples) {
    core::set_num_threads(3);
    std::atomic<bool> done{false}, plausible{true};
    std::thread restless([&] {
        for (std::size_t n = 0; !done; ++n) {
            core::set_num_threads(1 + n % 8);
            if (core::get_num_threads() > 8) plausible = false;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    for (std::size_t first = 0; first < samples.size(); ++first) {
        const Sample& shared = samples[first];
        const Parameters p(shared.call);
        std::vector<std::thread> callers;
        for (std::size_t i = 0; i < 8; ++i)
            callers.emplace_back([&, i] {
                const std::size_t isa = options.isas[i % options.isas.size()];
                if (i % 2 != 0) p.params.prepare();
                check_right(shared, p, isa, ", one of many callers");
                if (i % 4 != 0) return;  // and something else at the same time
                const Sample& own = samples[(first + i + 1) % samples.size()];
                check_right(own, Parameters(own.call), isa, " beside many callers");
            });
        for (std::thread& caller : callers) caller.join();
    }
    done = true;
    restless.join();
    check(plausible, "get_num_threads while it changes");
}

// What is set for the process changes while C++ and C call: the ISA, the number of threads.
void test_settings() {
    const std::vector<float> in(200003, 99.6f);
    const zeropoint::Quantizer<std::uint8_t> shared(zeropoint::make_params<std::uint8_t>(1, 0));
    std::atomic<bool> done{false};
    std::thread restless([&] {
        const auto all = zeropoint::isas();
        for (std::size_t n = 0; !done; ++n) {
            zeropoint::set_isa(all[n % all.size()]);
            core::set_num_threads(1 + n % 4);
            zeropoint_set_isa(n % 2 ? "" : "no such");
            std::this_thread::yield();
        }
    });
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i)
        callers.emplace_back([&, i] {
            for (int k = 0; k < 40; ++k) {
                const std::size_t n = k % 2 ? in.size() : std::size_t(300 + i);
                std::vector<std::uint8_t> out(n);
                if (i % 2)
                    shared.quantize(in.data(), out.data(), n);
                else
                    zeropoint::quantize(in.data(), out.data(), n,
                                        zeropoint::make_params<std::uint8_t>(1, 0));
                check(std::count(out.begin(), out.end(), 100) == std::ptrdiff_t(n) &&
                          !zeropoint::isa().empty(),
                      "calls while the ISA and the number of threads change");
                // each thread has a message of its own
                const std::string name = "unknown" + std::to_string(i);
                check(zeropoint_set_isa(name.c_str()) != 0 &&
                          std::string(zeropoint_message()).find(name) != std::string::npos,
                      "the message of this thread's last error");
            }
        });
    for (std::thread& caller : callers) caller.join();
    done = true;
    restless.join();
    zeropoint::set_isa("");
}

// A call that works alone leaves the pool to others: to one that its own work makes, for instance.
void test_alone() {
    static std::atomic<bool> joined;
    static std::chrono::steady_clock::time_point end;
    joined = false;
    end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    const auto wait_for_another = [](void*, std::size_t thread) {
        if (thread > 0) joined = true;
        return thread == 0 && !joined && std::chrono::steady_clock::now() < end;
    };
    core::run_in_threads(
        1,
        [](void* work, std::size_t) {
            core::run_in_threads(2, *static_cast<core::Work*>(work), nullptr);
            return false;
        },
        std::array<core::Work, 1>{wait_for_another}.data());
    check(joined, "a call in one thread does not take the pool");
}

#if defined(__linux__)
// What the handler of a signal does to a thread of the pool: nothing, until it may go on.
std::atomic<bool> held{false};
std::atomic<int> holding{0};
void hold(int) {
    ++holding;
    while (held) usleep(1000);
    --holding;
}

std::vector<int> other_threads() {
    std::vector<int> found;
    DIR* tasks = opendir("/proc/self/task");
    while (const dirent* entry = readdir(tasks))
        if (const int id = std::atoi(entry->d_name); id > 0 && id != getpid()) found.push_back(id);
    closedir(tasks);
    return found;
}

template <class Condition>
bool within(std::chrono::seconds time, const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (!condition() && std::chrono::steady_clock::now() < end) usleep(1000);
    return condition();
}

// The system may put a thread of the pool aside for as long as it likes: calls end without it.
// Later it finds that they are over.
void test_threads_that_do_not_wake() {
    const Sample sample(call_of(Op::quantize, DType::f32, DType::u8, tensor(480007)), 10);
    const Parameters p(sample.call);
    const std::size_t isa = options.isas[0];
    core::set_num_threads(3);
    for (int round = 0; round < 3; ++round) {
        check_right(sample, p, isa, ", which starts the pool");
        usleep(50000);  // they sleep, and no one holds a lock
        struct sigaction action = {}, before = {};
        action.sa_handler = hold;
        sigaction(SIGUSR1, &action, &before);
        held = true;
        const std::vector<int> threads = other_threads();
        for (const int id : threads) syscall(SYS_tgkill, getpid(), id, SIGUSR1);
        // a sanitizer's thread does not take the signal
        within(std::chrono::seconds(2), [&] { return holding == int(threads.size()); });
        check(holding >= 2, "the pool's threads are held");
        std::atomic<int> done{0};
        std::thread caller([&] {
            for (; done < 5; ++done) check_right(sample, p, isa, " while no helper wakes");
        });
        check(within(std::chrono::seconds(20), [&] { return done == 5; }),
              "calls that end though no helper wakes");
        held = false;
        caller.join();
        check(within(std::chrono::seconds(20), [] { return holding == 0; }), "they go on");
        sigaction(SIGUSR1, &before, nullptr);
        for (int i = 0; i < 20; ++i) check_right(sample, p, isa, ", late helpers among it");
    }
}
#endif

#if defined(ZEROPOINT_TEST_HAS_FORK)
// Makes a child that calls the core twice: the second time it has a pool of its own.
bool child_is_right(const Sample& sample) {
    const pid_t child = fork();
    if (child == 0) {
        const Parameters p(sample.call);
        const std::size_t isa = options.isas[0];
        _exit(sample.is_right(p, isa) && sample.is_right(p, isa) ? 0 : 1);
    }
    for (int i = 0; child > 0 && i < 6000; ++i) {
        int status = 0;
        if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (child > 0) {  // it hangs
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
    }
    return false;
}
#endif

}  // namespace

void test_threads() {
    test_first_use();
    const std::vector<Sample> samples = large_samples();
    test_any_number(samples);
    test_callers(samples);
    test_settings();
    test_alone();
#if defined(__linux__)
    test_threads_that_do_not_wake();
#endif
    core::set_num_threads(0);
}

void test_fork() {
#if defined(ZEROPOINT_TEST_HAS_FORK)
    const Sample sample(call_of(Op::quantize, DType::f32, DType::u8, tensor(480007)), 9);
    const Parameters p(sample.call);
    const std::size_t isa = options.isas[0];
    core::set_num_threads(3);
    check_right(sample, p, isa, ", which starts the pool");
    for (int i = 0; i < 20; ++i) check(child_is_right(sample), "a child while the pool waits");

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // their allocators do not know fork: a child waits for a lock that a thread of its parent held
    std::printf("NOT RUN under this sanitizer: children while others call\n");
#else
    std::atomic<bool> done{false}, right{true};
    const auto call = [&] {
        while (!done)
            if (!sample.is_right(p, isa)) right = false;
    };
    std::thread one(call), two(call);  // one of them has the pool
    for (int i = 0; i < 20; ++i) check(child_is_right(sample), "a child while others call");
    done = true;
    one.join();
    two.join();
    check(right, "calls while children are made");
#endif
    core::set_num_threads(0);
#endif
}

}  // namespace test
