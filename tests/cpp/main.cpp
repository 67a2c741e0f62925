// zeropoint_tests [NAME ...] [--isas A,B] [--every N] [--digests]
//
// Runs the tests named (kernels, threads, fork, host, choose; all by default) on the ISAs named
// (all that this CPU has by default).  ZEROPOINT_STREAM_FROM=0 makes every long result go past the
// caches. The last line has the counts; exit code 1 if a check failed, 2 for wrong usage.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>

#include "check.hpp"

namespace {

struct Test {
    const char* name;
    void (*run)();
};
constexpr Test tests[] = {{"kernels", test::test_kernels},
                          {"threads", test::test_threads},
                          {"fork", test::test_fork},
                          {"host", test::test_host},
                          {"choose", test::test_choose}};

[[noreturn]] void wrong_usage(const std::string& why) {
    std::fprintf(stderr, "%s\nusage: zeropoint_tests [kernels|threads|fork|host|choose ...]",
                 why.c_str());
    std::fprintf(stderr, " [--isas A,B] [--every N] [--digests]\nisas:");
    for (const std::string& isa : zeropoint::core::isas()) std::fprintf(stderr, " %s", isa.c_str());
    std::fprintf(stderr, "\n");
    std::exit(2);
}

std::vector<std::size_t> indices(const std::string& names) {
    const auto& isas = zeropoint::core::isas();
    std::vector<std::size_t> found;
    for (std::size_t from = 0; from <= names.size();) {
        const std::size_t comma = std::min(names.find(',', from), names.size());
        const std::string name = names.substr(from, comma - from);
        const auto isa = std::find(isas.begin(), isas.end(), name);
        if (isa == isas.end()) wrong_usage("this CPU has no ISA \"" + name + '"');
        found.push_back(static_cast<std::size_t>(isa - isas.begin()));
        from = comma + 1;
    }
    return found;
}

}  // namespace

int main(int argc, char** argv) {
    for (std::size_t i = 0; i < zeropoint::core::isas().size(); ++i)
        test::options.isas.push_back(i);
    std::vector<const Test*> chosen;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto test = std::find_if(std::begin(tests), std::end(tests),
                                       [&](const Test& t) { return word == t.name; });
        if (test != std::end(tests)) {
            chosen.push_back(test);
        } else if (word == "--digests") {
            test::options.digests = true;
        } else if (word == "--isas" && i + 1 < argc) {
            test::options.isas = indices(argv[++i]);
        } else if (word == "--every" && i + 1 < argc) {
            test::options.every = std::strtoull(argv[++i], nullptr, 10);
            if (test::options.every == 0) wrong_usage("--every is a number from 1 on");
        } else {
            wrong_usage("unknown argument \"" + word + '"');
        }
    }
    if (chosen.empty())
        for (const Test& test : tests) chosen.push_back(&test);
    for (const Test* test : chosen) test->run();

    test::digests.print();
    std::string names;
    for (const std::size_t isa : test::options.isas) names += ' ' + zeropoint::core::isas()[isa];
    std::printf("%llu passed, %llu failed; %llu elements compared on%s\n",
                static_cast<unsigned long long>(test::counts.passed),
                static_cast<unsigned long long>(test::counts.failed),
                static_cast<unsigned long long>(test::counts.elements), names.c_str());
    return test::counts.failed != 0;
}
