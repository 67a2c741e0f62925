// Scale and zero point for hard ranges: the same on every machine, and never a scale that is not a
// positive number.
#include "check.hpp"
#include "choice.hpp"
#include "inputs.hpp"

namespace test {

namespace {

template <class T>
std::vector<T> hard_numbers() {
    using Limits = std::numeric_limits<T>;
    std::vector<T> found{0, Limits::infinity(), Limits::quiet_NaN()};
    for (const T v : {Limits::denorm_min(), T(3) * Limits::denorm_min(), Limits::min(),
                      T(200) * Limits::min(), T(300) * Limits::min(), Limits::max() / 2,
                      Limits::max(), Limits::max() / 300, T(1e-6), T(1), T(2.55), T(127.5), T(30)})
        found.push_back(v), found.push_back(-v);
    return found;
}

std::vector<core::Choice> choices() {
    constexpr int ranges[][2] = {{0, 255}, {-128, 127}, {-127, 127}, {3, 4}, {-7, -2}};
    std::vector<core::Choice> found;
    for (const auto& range : ranges) {
        core::Choice c;
        c.qmin = range[0];
        c.qmax = range[1];
        for (const core::ZeroPointFrom rule :
             {core::ZeroPointFrom::default_rule, core::ZeroPointFrom::max, core::ZeroPointFrom::min,
              core::ZeroPointFrom::least_error}) {
            c.zero_point_from = rule;
            for (const Convention convention : conventions) {
                c.convention = convention;
                found.push_back(c);
            }
        }
        c.convention = Convention::numpy;
        c.include_zero = false;
        for (const core::ZeroPointFrom rule :
             {core::ZeroPointFrom::default_rule, core::ZeroPointFrom::max,
              core::ZeroPointFrom::least_error}) {
            c.zero_point_from = rule;
            found.push_back(c);
        }
        c.zero_point_from = core::ZeroPointFrom::default_rule;
        c.include_zero = c.symmetric = true;
        found.push_back(c);
    }
    return found;
}

template <class T>
void check_range(T low, T high, const core::Choice& choice) {
    const std::string problem = problem_of_choice(low, high, choice);
    ++counts.elements;
    if (options.digests) {
        const std::string answer = describe(chosen_by_core(low, high, choice));
        for (const std::size_t isa : options.isas)
            digests.add("choose", core::isas()[isa], answer.data(), answer.size());
    }
    check(problem.empty(), "choose for [" + exactly(low) + ", " + exactly(high) + "], " +
                               describe(choice) + ": " + problem);
}

template <class T>
void check_ranges() {
    const std::vector<T> numbers = hard_numbers<T>();
    Random random(1);
    for (const core::Choice& choice : choices()) {
        for (const T low : numbers)
            for (const T high : numbers)
                if (!(low > high)) check_range(low, high, choice);
        for (int i = 0; i < 1000; ++i) {
            // of any usual size, or where the scale is subnormal or the range overflows
            constexpr int lowest = std::numeric_limits<T>::min_exponent;
            constexpr int highest = std::numeric_limits<T>::max_exponent;
            const std::int64_t exponents[] = {random.between(-40, 40),
                                              random.between(lowest - 20, lowest + 10), highest};
            const int exponent = static_cast<int>(exponents[i % 3]);
            const T a = static_cast<T>(std::ldexp(random.unit() * 2 - 1, exponent));
            const T b = static_cast<T>(std::ldexp(random.unit() * 2 - 1, exponent));
            check_range(std::min(a, b), std::max(a, b), choice);
        }
    }
}

}  // namespace

void test_choose() {
    check_ranges<float>();
    check_ranges<double>();
}

}  // namespace test
