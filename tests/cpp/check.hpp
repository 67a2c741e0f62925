// Counting what was checked.  A check is a call compared with the oracle's result, or a condition.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "call.hpp"

namespace test {

struct Counts {
    std::atomic<std::uint64_t> passed{0}, failed{0}, elements{0};
};
inline Counts counts;

/// Counts a check; what fails is printed, the first 20 times.
inline bool check(bool ok, const std::string& what, const std::string& more = "") {
    if (ok) {
        ++counts.passed;
    } else if (counts.failed++ < 20) {
        std::printf("FAILED: %s%s\n", what.c_str(), more.c_str());
        std::fflush(stdout);
    }
    return ok;
}

/// What the program was asked to do.
struct Options {
    std::vector<std::size_t> isas;  // indices into core::isas()
    std::uint64_t every = 1;        // of the calls of kernels and threads, one in so many is made
    bool digests = false;           // print them
};
inline Options options;

void test_kernels();
void test_threads();
void test_fork();
void test_host();
void test_choose();

/// Adds bytes to a digest (FNV-1a, 64 bits); equal digests on two machines mean equal results.
class Digests {
public:
    void add(const std::string& kind, const std::string& isa, const void* data, std::size_t n) {
        std::uint64_t& hash = hashes_.try_emplace({kind, isa}, 0xCBF29CE484222325).first->second;
        for (std::size_t i = 0; i < n; ++i)
            hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001B3;
    }
    void print() const {
        for (const auto& [key, hash] : hashes_)
            std::printf("digest\t%s\t%s\t%016llx\n", key.first.c_str(), key.second.c_str(),
                        static_cast<unsigned long long>(hash));
    }

private:
    std::map<std::pair<std::string, std::string>, std::uint64_t> hashes_;
};
inline Digests digests;

}  // namespace test
