#include "machine.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <thread>

#if defined(__unix__)
#include <unistd.h>
#endif
#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#endif

namespace zeropoint::core {

namespace {

#if defined(__linux__)
// The beginning of a file of the system's; empty where it cannot be read.
struct Text {
    char text[64] = {};
    explicit Text(const char* path) noexcept {
        const int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) return;
        if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
        close(file);
    }
};

// CPUs that the cgroup's quota comes to (version 2), at least 1; many where there is no quota.
std::size_t quota() noexcept {
    const Text file("/sys/fs/cgroup/cpu.max");  // microseconds and their period, or "max" and it
    char* rest = nullptr;
    const unsigned long long microseconds = std::strtoull(file.text, &rest, 10);
    const unsigned long long period = std::strtoull(rest, nullptr, 10);
    if (rest == file.text || period == 0) return SIZE_MAX;
    return static_cast<std::size_t>(std::max(1ULL, microseconds / period));
}

// As the kernel has it, for one CPU.  sysconf, where it knows at all, adds up all of a socket.
std::size_t kernels_last_level_cache() noexcept {
    char level[] = "/sys/devices/system/cpu/cpu0/cache/index0/level";
    char size[] = "/sys/devices/system/cpu/cpu0/cache/index0/size";
    unsigned long long found = 0, highest = 1;  // the first level has instructions too
    for (char index = '0'; index <= '9'; ++index) {
        level[sizeof "/sys/devices/system/cpu/cpu0/cache/index" - 1] = index;
        size[sizeof "/sys/devices/system/cpu/cpu0/cache/index" - 1] = index;
        const unsigned long long at = std::strtoull(Text(level).text, nullptr, 10);
        if (at <= highest) continue;
        const Text text(size);
        char* unit = nullptr;
        const unsigned long long number = std::strtoull(text.text, &unit, 10);
        if (number == 0) continue;
        highest = at;
        found = number << (*unit == 'M' ? 20 : *unit == 'K' ? 10 : 0);
    }
    return static_cast<std::size_t>(found);
}
#endif

}  // namespace

std::size_t usable_cpus() noexcept {
    std::size_t cpus = std::max(1U, std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
    cpus = std::min(cpus, quota());
#endif
    return cpus;
}

std::size_t last_level_cache() noexcept {
#if defined(__linux__)
    if (const std::size_t bytes = kernels_last_level_cache()) return bytes;
#endif
    long bytes = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (bytes <= 0) bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
}

bool has_page(const void* memory) noexcept {
#if defined(__linux__)
    const long page = sysconf(_SC_PAGESIZE);
    if (page <= 0) return true;
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    const auto start = address - address % static_cast<std::uintptr_t>(page);
    unsigned char resident = 1;
    return mincore(reinterpret_cast<void*>(start), 1, &resident) != 0 || (resident & 1);
#else
    (void)memory;
    return true;
#endif
}

}  // namespace zeropoint::core
