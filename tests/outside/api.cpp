// Runs every function of the typed API over the floats in DIR/x.bin, which have the shape
// [6, 7, 64], and writes each result to a file in DIR, for Python to compare with its own.  Checks
// by itself how bad parameters are reported, and that the loops cannot throw.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>
#include <zeropoint/zeropoint.hpp>

namespace zp = zeropoint;

namespace {

int failed = 0, passed = 0;
std::string dir;

void expect(bool good, const std::string& what) {
    ++(good ? passed : failed);
    if (!good) std::printf("FAILED: %s\n", what.c_str());
}

template <class T>
void save(const std::string& name, const std::vector<T>& values) {
    std::ofstream file(dir + "/" + name + ".bin", std::ios::binary);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(T)));
}

template <class T>
std::vector<T> load(const std::string& name) {
    std::ifstream file(dir + "/" + name + ".bin", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
}

const zp::Shape shape{6, 7, 64};

struct Recipe {
    const char* name;
    zp::Convention convention;
};
const Recipe recipes[] = {{"numpy", zp::Convention::numpy},
                          {"onnx", zp::Convention::onnx},
                          {"torch", zp::Convention::torch},
                          {"tflite", zp::Convention::tflite},
                          {"ggml", zp::Convention::ggml}};

// quantize, dequantize and fake_quantize of data in X.
template <class Q, class X>
void operations(const std::string& name, const zp::Params& params) {
    const auto x = load<X>(sizeof(X) == 4                        ? "x"
                           : std::is_same<X, zp::float16>::value ? "x_float16"
                                                                 : "x_bfloat16");
    std::vector<Q> q(x.size());
    std::vector<X> y(x.size());
    zp::quantize(x.data(), q.data(), x.size(), params);
    save(name + "_quantize", q);
    zp::dequantize(q.data(), y.data(), x.size(), params);
    save(name + "_dequantize", y);
    zp::fake_quantize<Q>(x.data(), y.data(), x.size(), params);
    save(name + "_fake_quantize", y);
}

template <class Q>
void all(const std::string& name) {
    const auto x = load<float>("x");
    std::vector<Q> q(x.size());
    std::vector<float> y(x.size());
    for (const Recipe& recipe : recipes) {
        const std::string full = name + "_" + recipe.name;
        zp::Choice<Q> how;
        how.convention = recipe.convention;
        const zp::Params params = zp::quantize_dynamic(x.data(), q.data(), x.size(), how);
        save(full + "_dynamic", q);
        save(full + "_params",
             std::vector<double>{params.scale, static_cast<double>(params.zero_point)});
        operations<Q, float>(full + "_float32", params);
        operations<Q, zp::float16>(full + "_float16", params);
        operations<Q, zp::bfloat16>(full + "_bfloat16", params);

        for (std::size_t axis = 0; axis < shape.size(); ++axis)
            for (const std::size_t block : {std::size_t(0), std::size_t(4)}) {
                const std::string at =
                    full + "_axis" + std::to_string(axis) + "_block" + std::to_string(block);
                const zp::AxisParams along =
                    zp::quantize_dynamic(x.data(), q.data(), shape, axis, block, how);
                save(at + "_quantize", q);
                zp::dequantize(q.data(), y.data(), shape, along);
                save(at + "_dequantize", y);
                zp::fake_quantize<Q>(x.data(), y.data(), shape, along);
                save(at + "_fake_quantize", y);
            }

        std::vector<std::int32_t> acc(x.size());
        for (std::size_t i = 0; i < acc.size(); ++i)
            acc[i] = static_cast<std::int32_t>(i * 2654435761u);
        zp::requantize(acc.data(), q.data(), acc.size(), 3e-9, params);
        save(full + "_requantize", q);
        const zp::AxisParams along = zp::choose_params<Q>(x.data(), shape, 1, 0, how);
        const std::vector<double> acc_scale{1e-9, 2e-9, 3e-9, 4e-9, 5e-9, 6e-9, 7e-9};
        zp::requantize(acc.data(), q.data(), shape, acc_scale, along);
        save(full + "_requantize_axis1", q);
    }
    const struct {
        const char* name;
        zp::ZeroPointFrom from;
    } rules[] = {{"max", zp::ZeroPointFrom::max},
                 {"min", zp::ZeroPointFrom::min},
                 {"least_error", zp::ZeroPointFrom::least_error}};
    for (const auto& rule : rules)
        for (const bool include_zero : {true, false}) {
            const zp::Params p = zp::choose_params<Q>(x.data(), x.size(), rule.from, include_zero);
            save(name + "_" + rule.name + (include_zero ? "_zero" : "_free"),
                 std::vector<double>{p.scale, static_cast<double>(p.zero_point)});
        }
    zp::Choice<Q> symmetric;
    symmetric.symmetric = true;
    const zp::Params p = zp::choose_params<Q>(x.data(), x.size(), symmetric);
    save(name + "_symmetric", std::vector<double>{p.scale, static_cast<double>(p.zero_point)});
    zp::saturate_cast(x.data(), q.data(), x.size());
    save(name + "_saturate_cast", q);
}

template <class Call>
void refused(const Call& call, const std::string& argument, const std::string& value) {
    try {
        call();
    } catch (const std::invalid_argument& error) {
        const std::string message = error.what();
        expect(message.find(argument) == 0 && message.find(value) != std::string::npos,
               argument + " " + value + " is reported as: " + message);
        return;
    }
    expect(false, argument + " " + value + " is not refused");
}

constexpr zp::Arithmetic arithmetics[] = {zp::Arithmetic::exact, zp::Arithmetic::in_float,
                                          zp::Arithmetic::litert, zp::Arithmetic::litert_reference};

// The tables and their errors for all pairs of parameters in DIR/pairs.bin: rows of scale, zero
// point, those of the target, its convention, and whether zero points lie anywhere.
template <class P, class Q>
void tables(const std::string& name) {
    const auto rows = load<double>("pairs");
    std::vector<std::uint8_t> bytes;
    std::vector<double> worst;
    const auto add = [&](const auto& lookup, std::size_t channels) {
        bytes.insert(bytes.end(), lookup.table(), lookup.table() + 256 * channels);
        worst.push_back(lookup.max_abs_error());
    };
    const auto square = [](double x) { return x * x - 3 / x; };
    for (auto row = rows.begin(); row != rows.end(); row += 6) {
        const bool anywhere = row[5] != 0;
        const auto params = [&](auto code, const double* numbers, zp::Convention convention) {
            auto p = zp::make_params<decltype(code)>(static_cast<float>(numbers[0]), code);
            p.zero_point = static_cast<std::int32_t>(numbers[1]) + (anywhere ? 0 : p.qmin);
            p.convention = convention;
            p.include_zero = !anywhere;
            return p;
        };
        const auto source = params(P{}, &row[0], zp::Convention::numpy);
        const auto target =
            params(Q{}, &row[2], recipes[static_cast<std::size_t>(row[4])].convention);
        for (const zp::Arithmetic arithmetic : arithmetics)
            if (!anywhere || arithmetic == arithmetics[0] || arithmetic == arithmetics[1])
                add(zp::make_rescale<P, Q>(source, target, arithmetic), 1);
        add(zp::make_lookup<P, Q>(square, source, target), 1);
    }
    save(name + "_tables", bytes);
    save(name + "_errors", worst);

    // over codes of this shape, which Python gives, per channel of axis 1
    const auto codes = load<P>("codes");
    std::vector<Q> out(codes.size());
    const zp::AxisParams source = [] {
        zp::AxisParams p;
        p.scale = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f};
        p.zero_point = {3};
        p.qmin = std::is_signed<P>::value ? -128 : 0;
        p.qmax = p.qmin + 255;
        p.axis = 1;
        return p;
    }();
    zp::AxisParams target = source;
    target.scale = {0.25f};
    target.axis = 0;  // of no matter for one scale
    target.qmin = std::is_signed<Q>::value ? -128 : 0;
    target.qmax = target.qmin + 255;
    for (const zp::Arithmetic arithmetic : arithmetics) {
        zp::rescale(codes.data(), out.data(), shape, source, target, arithmetic);
        save(name + "_rescale" + std::to_string(static_cast<int>(arithmetic)), out);
    }
    zp::make_lookup<P, Q>(square, source, target, shape)(codes.data(), out.data());
    save(name + "_lookup", out);
    const zp::Params one{0.25f, 3, target.qmin, target.qmax};
    zp::rescale(codes.data(), out.data(), codes.size(), {0.5f, 1, source.qmin, source.qmax}, one);
    save(name + "_rescale", out);
    const auto pixels = load<std::uint8_t>("codes");
    const auto image =
        zp::image_lookup<Q>({0.5, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5}, {0.25}, one, shape, 1);
    image(pixels.data(), out.data());
    save(name + "_image", out);
    static_assert(noexcept(image(pixels.data(), out.data())), "the loops do not throw");
}

void errors() {
    using zp::Convention;
    constexpr float inf = std::numeric_limits<float>::infinity();
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    float x[4] = {1, 2, 3, 4};
    std::uint8_t q[4] = {9, 9, 9, 9};
    for (const float scale : {0.0f, -1.0f, inf, nan})
        refused([&] { zp::make_params<std::uint8_t>(scale, 0); }, "scale", "> 0");
    refused([] { zp::make_params<std::int8_t>(1e-40f, 0, Convention::torch); }, "scale", "torch");
    refused([] { zp::make_params<std::int8_t>(1, 200); }, "zero_point", "200");
    refused([&] { zp::quantize(x, q, 4, {1, 0, 0, 256}); }, "qmax", "256");
    refused([&] { zp::quantize(x, q, 4, {1, 0, -1, 255}); }, "qmin", "-1");
    refused([&] { zp::quantize(x, q, 4, {1, 7, 7, 7}); }, "qmin", "7");
    refused(
        [&] {
            zp::quantize(x, q, 4, {1, 0, 0, 255, Convention::onnx, false});
        },
        "include_zero", "numpy");
    refused(
        [&] {
            zp::quantize(x, q, 4, {1, 0, 0, 255, static_cast<Convention>(9)});
        },
        "convention", "9");
    const auto along = [](std::vector<float> scale, std::vector<std::int32_t> zero,
                          std::size_t axis, std::size_t block = 0) {
        zp::AxisParams p;
        p.scale = std::move(scale);
        p.zero_point = std::move(zero);
        p.qmin = 0;
        p.qmax = 255;
        p.axis = axis;
        p.block_size = block;
        return p;
    };
    refused(
        [&] {
            zp::quantize(x, q, {2, 2}, along({1, nan}, {0}, 0));
        },
        "scale of channel 1", "nan");
    refused(
        [&] {
            zp::quantize(x, q, {2, 2}, along({1, 1}, {0, -3}, 1));
        },
        "zero_point of channel 1", "-3");
    refused([&] { zp::quantize(x, q, {2, 2}, along({1, 1}, {0, 0, 0}, 0)); }, "zero_point", "3");
    refused([&] { zp::quantize(x, q, {2, 2}, along({1, 1}, {0}, 2)); }, "axis", "2");
    refused([&] { zp::quantize(x, q, {4}, along({1, 1}, {0}, 0)); }, "scale", "needs 4");
    refused([&] { zp::quantize(x, q, {1, 4}, along({1, 1, 1}, {0}, 1, 2)); }, "scale", "needs 2");
    constexpr std::size_t many = std::numeric_limits<std::size_t>::max() / 2;
    refused([&] { zp::quantize(x, q, {many, 4}, along({1}, {0}, 0)); }, "shape", "memory");
    refused([&] { zp::choose_params<std::uint8_t>(x, 0); }, "x", "no data");
    const float bad[] = {0, nan, -inf, 1};
    refused([&] { zp::choose_params<std::uint8_t>(bad, 4); }, "x has 2 NaN or Inf of 4", "index 1");
    // Inf and NaN, the largest number, and what would be no number in the other 16-bit format
    const zp::float16 half[] = {{0x3C00}, {0x7C00}, {0x7BFF}, {0x7E00}, {0xFC00}};
    refused([&] { zp::choose_params<std::uint8_t>(half, 5); }, "x has 3 NaN or Inf of 5",
            "index 1");
    const zp::bfloat16 brain[] = {{0x7C00}, {0x7F7F}, {0xFF80}, {0x7E00}, {0x7FC0}};
    refused([&] { zp::min_max(brain, 5); }, "x has 2 NaN or Inf of 5", "index 2");
    const float same[] = {5, 5};
    refused([&] { zp::choose_params<std::uint8_t>(same, 2, zp::ZeroPointFrom::min, false); }, "x",
            "constant");
    const float far[] = {1e30f, 1.0000001e30f};
    refused([&] { zp::choose_params<std::uint8_t>(far, 2, zp::ZeroPointFrom::min, false); },
            "the zero point", "int32");
    zp::Choice<std::uint8_t> how;
    how.symmetric = true;
    how.zero_point_from = zp::ZeroPointFrom::max;
    refused([&] { zp::choose_params<std::uint8_t>(x, 4, how); }, "symmetric", "zero_point_from");
    // nothing unknown falls through to what is known
    how.symmetric = false;
    how.zero_point_from = static_cast<zp::ZeroPointFrom>(7);
    refused([&] { zp::choose_params<std::uint8_t>(x, 4, how); }, "zero_point_from 7", "max, min");
    const auto fault = [&](const zp::core::Choice& choice) {
        float scale;
        std::int32_t zero;
        return zp::core::choose(zp::core::DType::f32, x, x + 1, 1, choice, &scale, &zero).fault;
    };
    expect(fault(how) == zp::core::Fault::unknown, "an unknown rule chooses");
    how.zero_point_from = zp::ZeroPointFrom::max;
    expect(fault(how) == zp::core::Fault::none, "a known rule does not choose");
    how.convention = static_cast<Convention>(9);
    refused([&] { zp::choose_params<std::uint8_t>(x, 4, how); }, "convention 9", "tflite");
    expect(fault(how) == zp::core::Fault::unknown, "an unknown convention chooses");
    const std::vector<float> one{1};
    refused([&] { zp::core::Params(one, {0}, 0, 255, zp::core::DType::u8, how.convention); },
            "convention 9", "unknown");

    // what is not set is valid: a scale of 1 and the codes of uint8
    std::uint8_t codes[4];
    zp::quantize(x, codes, 4, zp::Params{});
    expect(codes[0] == 1 && codes[3] == 4, "parameters by default");
    std::int8_t signed_codes[4];
    refused([&] { zp::quantize(x, signed_codes, 4, zp::Params{}); }, "qmax 255", "make_params");
    const std::int32_t acc[] = {1};
    refused([&] { zp::requantize(acc, q, 1, -1.0, zp::make_params<std::uint8_t>(1, 0)); },
            "acc_scale", "-1");
    const zp::Params u = zp::make_params<std::uint8_t>(1, 0);
    using zp::Arithmetic;
    const auto rescaled = [&](const zp::AxisParams& a, const zp::AxisParams& b) {
        zp::rescale(q, q, {2, 2}, a, b);
    };
    refused([&] { zp::rescale(q, q, 4, u, zp::Params{-1, 0, 0, 255}); }, "scale", "-1");
    refused([&] { zp::rescale(q, q, 4, u, u, static_cast<Arithmetic>(9)); }, "arithmetic 9",
            "in_float");
    refused(
        [&] {
            rescaled(along({1, 1}, {0}, 0), along({1, 1}, {0}, 1));
        },
        "source has axis 0", "target axis 1");
    refused(
        [&] {
            rescaled(along({1}, {0}, 0), along({1, 1, 1}, {0}, 1));
        },
        "scale of target has 3", "needs 2");
    refused([&] { rescaled(along({1}, {0}, 0), along({1}, {0}, 1, 2)); }, "target has block_size 2",
            "per channel");
    refused([&] { rescaled(along({1}, {0}, 2), along({1}, {0}, 2)); }, "axis 2", "bounds");
    refused(
        [&] {
            zp::rescale(q, q, 4, {1, 300, 0, 255, Convention::numpy, false}, u, Arithmetic::litert);
        },
        "zero_point 300", "exact");
    refused(
        [&] {
            zp::rescale(q, q, 4, {0x1p31f, 0, 0, 255}, u, Arithmetic::litert);
        },
        "source.scale / target.scale", "2^31");
    refused(
        [&] {
            zp::image_lookup<std::uint8_t>({0, 0}, {1}, u, {2, 2, 3}, 2);
        },
        "mean has 2", "needs 3");
    refused([&] { zp::image_lookup<std::uint8_t>({0}, {0}, u, {2, 2, 3}, 2); }, "std 0", "not 0");
    refused(
        [&] {
            zp::image_lookup<std::uint8_t>({nan}, {1}, u, {2, 2, 3}, 2);
        },
        "mean nan", "finite");
    refused([&] { zp::image_lookup<std::uint8_t>({0}, {1}, u, {2, 2, 3}, 3); }, "axis 3", "bounds");
    refused(
        [&] {
            zp::image_lookup<std::uint8_t>({0}, {1}, along({1, 1}, {0}, 0), {2, 2, 3}, 2);
        },
        "params has axis 0", "axis 2");
    refused([] { zp::set_isa("mmx"); }, "isa", "baseline");
    refused([&] { zp::saturate(x, x, 4, 3, 2); }, "qmin", "3");
    for (const std::uint8_t code : q) expect(code == 9, "nothing is written on error");
}

}  // namespace

// What the typed API says of its environment, a line for each call, for Python to look at.
int environment() {
    const float x[] = {-1, 2};
    float y[] = {9, 9};
    std::uint8_t q[] = {9, 9};
    const auto tell = [](const auto& call) {
        try {
            call();
            std::printf("fine\n");
        } catch (const std::invalid_argument& error) {
            std::printf("%s\n", error.what());
        }
    };
    zp::round(x, y, 2);  // noexcept: goes on as if it were not set
    zp::saturate_cast(x, q, 2);
    const bool right = y[0] == -1 && y[1] == 2 && q[0] == 0 && q[1] == 2;
    tell([] { zp::make_params<std::uint8_t>(1, 0); });
    tell([&] { zp::choose_params<std::uint8_t>(x, 2); });
    tell([&] { zp::min_max(x, 2); });
    tell([&] { zp::quantize(x, q, 2, {1, 0, 0, 255}); });
    tell([&] { zp::saturate(x, y, 2, -1, 1); });
    tell([] { zp::set_isa(""); });
    return right ? 0 : 1;
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    dir = argv[1];
    if (dir == "environment") return environment();
    if (argc > 2) zp::set_isa(argv[2]);
    expect(zp::isa() == (argc > 2 ? argv[2] : zp::isas()[0]), "isa() is the chosen one");

    const zp::Quantizer<std::int8_t> quantizer(zp::make_params<std::int8_t>(0.1f, 3));
    static_assert(noexcept(quantizer.quantize(static_cast<const float*>(nullptr), nullptr, 0)),
                  "the loops do not throw");
    all<std::uint8_t>("uint8");
    all<std::int8_t>("int8");
    tables<std::uint8_t, std::uint8_t>("uint8_uint8");
    tables<std::uint8_t, std::int8_t>("uint8_int8");
    tables<std::int8_t, std::uint8_t>("int8_uint8");
    tables<std::int8_t, std::int8_t>("int8_int8");
    const auto x = load<float>("x");
    std::vector<float> y(x.size());
    zp::round(x.data(), y.data(), x.size(), zp::Ties::away);
    save("round_away", y);
    zp::saturate(x.data(), y.data(), x.size(), -2, 3);
    save("saturate", y);
    const auto range = zp::min_max(x.data(), x.size());
    save("min_max", std::vector<float>{range.first, range.second});
    errors();
    std::printf("%s, %zu threads\n%d passed, %d failed\n", zp::isa().c_str(), zp::get_num_threads(),
                passed, failed);
    return failed != 0;
}
