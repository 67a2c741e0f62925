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
        // bytes, and no text: libraries write numbers in their own ways
        const Chosen<T> chosen = chosen_by_core(low, high, choice);
        const bool found = chosen.fault == core::Fault::none;
        const T scale = found ? chosen.scale : T(0);
        const std::int32_t rest[] = {static_cast<std::int32_t>(chosen.fault),
                                     found ? chosen.zero_point : 0};
        for (const std::size_t isa : options.isas) {
            digests.add("choose", core::isas()[isa], &scale, sizeof scale);
            digests.add("choose", core::isas()[isa], rest, sizeof rest);
        }
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

// Many ranges at once, ordinary ones and others: as one by one.
template <class T>
void check_many() {
    constexpr std::size_t n = 700;
    Random random(2);
    const std::vector<T> numbers = hard_numbers<T>();
    const DType precision = sizeof(T) == 8 ? DType::f64 : DType::f32;
    for (const core::Choice& choice : choices())
        for (const bool ordinary : {true, false}) {
            std::vector<T> low(n), high(n), scale(n);
            std::vector<std::int32_t> zero(n);
            for (std::size_t i = 0; i < n; ++i) {
                const auto one = [&] {
                    const bool hard = !ordinary && random.between(0, 40) == 0;
                    const T v = numbers[static_cast<std::size_t>(random.between(3, 28))];
                    return hard ? v : static_cast<T>(random.unit() * 6 - 3);
                };
                const T a = one(), b = one();
                low[i] = std::min(a, b), high[i] = std::max(a, b);
            }
            const core::Verdict verdict = core::choose(precision, low.data(), high.data(), n,
                                                       choice, scale.data(), zero.data());
            bool same = true;
            for (std::size_t i = 0; i < (verdict ? n : verdict.index); ++i) {
                T s;
                std::int32_t z;
                same &= core::choose(precision, &low[i], &high[i], 1, choice, &s, &z) &&
                        s == scale[i] && z == zero[i];
            }
            check(same, "choose for many ranges, ", describe(choice));
        }
}

// quantize_dynamic, in one pass, against the three functions that it stands for.
void check_dynamic(DType real, const Layout& layout, const core::Choice& choice, std::size_t isa,
                   Random& random) {
    const std::size_t n = layout.size(), parameters = layout.parameters();
    const DType precision = real == DType::f64 ? DType::f64 : DType::f32;
    std::vector<char> x(n * core::size_of(real));
    for (std::size_t i = 0; i < n; ++i) store(x.data(), real, i, random.unit() * 6 - 2);
    const auto room = [&] { return std::vector<char>(parameters * core::size_of(precision)); };
    std::vector<char> low = room(), high = room(), scale = room(), found = room();
    std::vector<std::int32_t> zero(parameters), z(parameters);
    std::vector<std::uint8_t> q(n), codes(n);
    const std::string what = std::string("dynamic ") + name(real) + ' ' + name(layout.kind) + " {" +
                             std::to_string(layout.outer) + ", " + std::to_string(layout.axis) +
                             ", " + std::to_string(layout.inner) + "} " + describe(choice);

    const core::ConstView view{x.data(), real};
    const auto dynamic = [&](core::Poll poll = {}) {
        return core::quantize_dynamic(isa, view, codes.data(), layout, choice, found.data(),
                                      z.data(), poll);
    };
    const core::Outcome outcome = dynamic();
    if (layout.kind == Layout::Kind::tensor) {
        check(outcome == core::Outcome::apart, what, ": not apart");
        return;
    }
    core::min_max(isa, view, low.data(), high.data(), layout);
    core::choose(precision, low.data(), high.data(), parameters, choice, scale.data(), zero.data());
    const auto quantize = [&](const auto* s) {
        using T = std::decay_t<decltype(*s)>;
        const core::Params params(std::vector<T>(s, s + parameters), zero, choice.qmin, choice.qmax,
                                  DType::u8, choice.convention);
        core::quantize(isa, view, q.data(), layout, params);
    };
    if (precision == DType::f64)
        quantize(reinterpret_cast<const double*>(scale.data()));
    else
        quantize(reinterpret_cast<const float*>(scale.data()));
    counts.elements += n;
    check(outcome == core::Outcome::done && found == scale && z == zero && codes == q, what);

    if (n > std::size_t(1) << 21 && core::get_num_threads() == 1)
        check(dynamic({[](void*) { return false; }, nullptr}) == core::Outcome::stopped, what,
              ": not stopped");
    store(x.data(), real, n - 1, std::numeric_limits<double>::quiet_NaN());
    check(dynamic() == core::Outcome::fault, what, ": NaN is no fault");
}

void check_dynamic() {
    Random random(3);
    core::Choice symmetric;
    symmetric.symmetric = true;
    std::vector<core::Choice> all{symmetric};
    for (const Convention convention : conventions) all.emplace_back().convention = convention;
    const Layout layouts[] = {tensor(100),
                              channel(1, 37, 41),
                              channel(1, 5, 9001),
                              channel(1, 3, 70001),
                              channel(1, 20000, 3),
                              blocks(64, 96, 1, 32),
                              blocks(70, 101, 1, 25),
                              blocks(1, 50000, 1, 7),
                              blocks(1, 50000, 1, 50000),
                              blocks(2, 40, 33, 7),
                              blocks(1, 70, 1000, 33),
                              blocks(1, 5, 4, 1)};
    const std::size_t threads = core::get_num_threads();
    for (const std::size_t isa : options.isas)
        for (const std::size_t n : {std::size_t(1), std::size_t(3)}) {
            core::set_num_threads(n);
            for (const DType real : {DType::f16, DType::bf16, DType::f32, DType::f64})
                for (const Layout& layout : layouts)
                    check_dynamic(real, layout, all[random.below(all.size())], isa, random);
            check_dynamic(DType::f32, channel(1, 3000, 1000), all[1], isa, random);
        }
    core::set_num_threads(threads);
}

}  // namespace

void test_choose() {
    check_ranges<float>();
    check_ranges<double>();
    check_many<float>();
    check_many<double>();
    check_dynamic();
}

}  // namespace test
