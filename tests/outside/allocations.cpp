// Memory that is short: in a process of its own each, every call is made with its k-th allocation
// failing, alone or with all that follow, for every k, until no more is asked for.  A call gives
// the right result, or throws std::bad_alloc (a refusal: std::invalid_argument) and has written
// nothing; one that is noexcept gives the right result.  The process' first use of the library is
// in the call, but for what a prepared object needs.
#include <zeropoint/zeropoint.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>
#include <zeropoint/zeropoint.hpp>

#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
int main() {
    std::printf("NOT RUN: replaces glibc's malloc, and there is another\n0 passed, 0 failed\n");
}
#else
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

std::atomic<long> asked{0}, first{0}, last{0};  // allocations [first, last] fail; 0: none

bool refused() {
    if (first == 0) return false;
    const long number = ++asked;
    if (number < first || number > last) return false;
    errno = ENOMEM;
    return true;
}

}  // namespace

// What operator new, the threads and the C library all take their memory from.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t n) { return refused() ? nullptr : __libc_malloc(n); }
void* calloc(std::size_t n, std::size_t size) {
    return refused() ? nullptr : __libc_calloc(n, size);
}
void* realloc(void* from, std::size_t n) { return refused() ? nullptr : __libc_realloc(from, n); }
void* memalign(std::size_t to, std::size_t n) {
    return refused() ? nullptr : __libc_memalign(to, n);
}
void* aligned_alloc(std::size_t to, std::size_t n) { return memalign(to, n); }
}

namespace {

namespace zp = zeropoint;
namespace core = zeropoint::core;

using Run = std::function<void(unsigned char* out)>;
struct Call {
    std::string name;
    std::size_t bytes;  // of the result
    bool may_throw;
    std::function<Run()> prepare;  // with all the memory there is
};
std::vector<Call> calls;

constexpr std::size_t rows = 24, columns = 8801, n = rows * columns;  // enough for two threads
const zp::Shape shape{rows, columns};
std::vector<float> x(n);
std::vector<double> x64(n);
std::vector<zp::float16> x16(n);
std::vector<std::uint8_t> q(n);
std::vector<std::int32_t> acc(n);

template <class Result>
void throwing(const std::string& name, std::size_t count, void (*run)(Result*)) {
    calls.push_back({name, count * sizeof(Result), true, [run] {
                         return [run](unsigned char* out) { run(reinterpret_cast<Result*>(out)); };
                     }});
}

// A noexcept call of an object that is made before memory gets short.
template <class Result, class Object>
void prepared(const std::string& name, std::shared_ptr<Object> (*make)(),
              void (*run)(const Object&, Result*)) {
    calls.push_back({name + ", prepared", n * sizeof(Result), false, [make, run] {
                         auto object = make();
                         return [object, run](unsigned char* out) {
                             run(*object, reinterpret_cast<Result*>(out));
                         };
                     }});
}

zp::Params tensor() { return {0.05f, 3, 0, 255}; }
zp::AxisParams along(std::size_t axis, std::size_t block = 0) {
    zp::AxisParams p;
    const std::size_t blocks = block ? (columns + block - 1) / block : 1;
    p.scale.assign(axis == 0 ? rows : block ? rows * blocks : columns, 0.05f);
    p.zero_point = {3};
    p.qmin = 0;
    p.qmax = 255;
    p.axis = axis;
    p.block_size = block;
    return p;
}
template <class P>
std::shared_ptr<P> of(P value) {
    return std::make_shared<P>(std::move(value));
}

using U8 = std::uint8_t;
using Tensor = zp::Quantizer<U8>;
using Axis = zp::AxisQuantizer<U8>;

void save(const zp::Params& p, double* to) {
    to[0] = p.scale;
    to[1] = p.zero_point;
}
void save(const zp::AxisParams& p, double* to) {
    for (std::size_t i = 0; i < p.scale.size(); ++i) {
        to[2 * i] = p.scale[i];
        to[2 * i + 1] = p.zero_point[i];
    }
}

void list_typed() {
    throwing<double>("make_params", 2, [](double* to) { save(zp::make_params<U8>(0.1f, 3), to); });
    throwing<double>("choose_params", 2,
                     [](double* to) { save(zp::choose_params<U8>(x.data(), n), to); });
    throwing<double>("choose_params float16", 2,
                     [](double* to) { save(zp::choose_params<U8>(x16.data(), n), to); });
    throwing<double>("choose_params rows", 2 * rows,
                     [](double* to) { save(zp::choose_params<U8>(x.data(), shape, 0), to); });
    throwing<double>("choose_params columns", 2 * columns,
                     [](double* to) { save(zp::choose_params<U8>(x.data(), shape, 1), to); });
    throwing<float>("min_max", 2, [](float* to) {
        const auto range = zp::min_max(x.data(), n);
        to[0] = range.first;
        to[1] = range.second;
    });
    throwing<U8>("quantize", n, [](U8* to) { zp::quantize(x.data(), to, n, tensor()); });
    throwing<U8>("quantize rows", n, [](U8* to) { zp::quantize(x.data(), to, shape, along(0)); });
    throwing<U8>("quantize columns", n,
                 [](U8* to) { zp::quantize(x.data(), to, shape, along(1)); });
    throwing<U8>("quantize blocks", n,
                 [](U8* to) { zp::quantize(x.data(), to, shape, along(1, 32)); });
    throwing<float>("dequantize", n, [](float* to) { zp::dequantize(q.data(), to, n, tensor()); });
    throwing<float>("fake_quantize columns", n,
                    [](float* to) { zp::fake_quantize<U8>(x.data(), to, shape, along(1)); });
    throwing<U8>("requantize", n,
                 [](U8* to) { zp::requantize(acc.data(), to, n, 1e-4, tensor()); });
    throwing<U8>("requantize rows", n, [](U8* to) {
        zp::requantize(acc.data(), to, shape, std::vector<double>(rows, 1e-4), along(0));
    });
    throwing<U8>("quantize_dynamic", n, [](U8* to) { zp::quantize_dynamic(x.data(), to, n); });
    throwing<float>("saturate", n, [](float* to) { zp::saturate(x.data(), to, n, -1, 1); });
    throwing<char>("isas, isa, set_isa", 64, [](char* to) {
        zp::set_isa("baseline");
        const std::string text = zp::isas().back() + zp::isa() + std::to_string(zp::isas().size());
        std::memcpy(to, text.c_str(), text.size());
    });
    throwing<char>("a refusal", 1, [](char*) { zp::make_params<U8>(-1, 0); });
    throwing<char>("a refusal of a channel", 1, [](char* to) {
        zp::AxisParams p = along(0);
        p.scale[7] = -1;
        zp::quantize(x.data(), reinterpret_cast<U8*>(to), shape, p);
    });

    const auto whole = [] { return of(Tensor(tensor())); };
    prepared<U8, Tensor>("quantize", whole,
                         [](const Tensor& t, U8* to) { t.quantize(x.data(), to, n); });
    prepared<U8, Tensor>("quantize float16", whole,
                         [](const Tensor& t, U8* to) { t.quantize(x16.data(), to, n); });
    prepared<float, Tensor>("dequantize", whole,
                            [](const Tensor& t, float* to) { t.dequantize(q.data(), to, n); });
    prepared<float, Tensor>("fake_quantize", whole,
                            [](const Tensor& t, float* to) { t.fake_quantize(x.data(), to, n); });
    // rows are worth a proof, and columns of fewer channels a tiling
    prepared<U8, Axis>(
        "quantize rows", [] { return of(Axis(along(0), shape)); },
        [](const Axis& a, U8* to) { a.quantize(x.data(), to); });
    prepared<U8, Axis>(
        "quantize columns", [] { return of(Axis(along(1), shape)); },
        [](const Axis& a, U8* to) { a.quantize(x.data(), to); });
    prepared<U8, Axis>(
        "quantize few columns",
        [] {
            zp::AxisParams p = along(0);
            p.axis = 1;
            return of(Axis(p, {columns, rows}));
        },
        [](const Axis& a, U8* to) { a.quantize(x.data(), to); });
    prepared<float, Axis>(
        "fake_quantize blocks", [] { return of(Axis(along(1, 32), shape)); },
        [](const Axis& a, float* to) { a.fake_quantize(x.data(), to); });
    prepared<U8, zp::Requantizer<U8> >(
        "requantize", [] { return of(zp::Requantizer<U8>(1e-4, tensor())); },
        [](const zp::Requantizer<U8>& r, U8* to) { r(acc.data(), to, n); });
    prepared<U8, zp::AxisRequantizer<U8> >(
        "requantize rows", [] { return of(zp::AxisRequantizer<U8>({1e-4}, along(0), shape)); },
        [](const zp::AxisRequantizer<U8>& r, U8* to) { r(acc.data(), to); });
    struct Nothing {};
    const auto nothing = [] { return of(Nothing{}); };
    prepared<float, Nothing>("round", nothing,
                             [](const Nothing&, float* to) { zp::round(x.data(), to, n); });
    prepared<U8, Nothing>("saturate_cast", nothing,
                          [](const Nothing&, U8* to) { zp::saturate_cast(x.data(), to, n); });
}

// ---- C: a status in place of the exception -----------------------------------------------------

void must(zeropoint_status status) {
    if (status == ZEROPOINT_OUT_OF_MEMORY) throw std::bad_alloc();
    if (status != ZEROPOINT_OK) throw std::invalid_argument(zeropoint_message());
}
constexpr zeropoint_params c_tensor{0.05f, 3, 0, 255, ZEROPOINT_UINT8, ZEROPOINT_NUMPY, 1};
const std::vector<float> c_scales(columns, 0.05f);
constexpr std::int32_t three = 3;

struct CQuantizer {
    zeropoint_quantizer* handle;
    explicit CQuantizer(std::size_t axis) {
        const zeropoint_axis_params p{c_scales.data(),
                                      &three,
                                      axis ? columns : rows,
                                      1,
                                      axis,
                                      0,
                                      0,
                                      255,
                                      ZEROPOINT_UINT8,
                                      0,
                                      1};
        must(zeropoint_quantizer_create_axis(&p, shape.data(), 2, &handle));
    }
    CQuantizer(const CQuantizer&) = delete;
    ~CQuantizer() { zeropoint_quantizer_destroy(handle); }
};

void list_c() {
    throwing<U8>("C quantize", n, [](U8* to) {
        must(zeropoint_quantize(x.data(), ZEROPOINT_FLOAT32, to, n, &c_tensor));
    });
    throwing<U8>("C quantize columns", n, [](U8* to) {
        must(
            zeropoint_quantizer_quantize(CQuantizer(1).handle, x.data(), ZEROPOINT_FLOAT32, to, n));
    });
    throwing<U8>("C requantize", n,
                 [](U8* to) { must(zeropoint_requantize(acc.data(), to, n, 1e-4, &c_tensor)); });
    throwing<double>("C choose_axis_params", 2 * rows, [](double* to) {
        zeropoint_choice choice;
        zeropoint_axis_params params;
        float scale[rows];
        std::int32_t zero_point[rows];
        must(zeropoint_make_choice(ZEROPOINT_UINT8, &choice));
        must(zeropoint_choose_axis_params(x.data(), ZEROPOINT_FLOAT32, shape.data(), 2, 0, 0,
                                          &choice, scale, zero_point, rows, &params));
        for (std::size_t i = 0; i < rows; ++i) {
            to[2 * i] = params.scale[i];
            to[2 * i + 1] = params.zero_point[i];
        }
    });
    throwing<U8>("C rescale", n, [](U8* to) {
        must(zeropoint_rescale(q.data(), to, n, &c_tensor, &c_tensor, ZEROPOINT_LITERT));
    });
    throwing<U8>("C image lookup", n, [](U8* to) {
        const double half = 0.5;
        zeropoint_lookup* lookup;
        must(zeropoint_lookup_create_image(&half, 1, &half, 1, 255, &c_tensor, shape.data(), 2, 0,
                                           &lookup));
        const zeropoint_status status = zeropoint_lookup_apply(lookup, q.data(), to, n);
        zeropoint_lookup_destroy(lookup);
        must(status);
    });
    throwing<char>("C set_isa", 8, [](char* to) {
        must(zeropoint_set_isa("baseline"));
        std::strcpy(to, zeropoint_isa());
    });
    throwing<char>("C, a refusal", 1, [](char*) {
        zeropoint_params params;
        must(zeropoint_make_params(-1, 0, ZEROPOINT_UINT8, ZEROPOINT_NUMPY, &params));
    });
    for (const bool by_columns : {false, true})
        prepared<U8, CQuantizer>(
            by_columns ? "C quantize columns" : "C quantize rows",
            by_columns ? [] { return std::make_shared<CQuantizer>(1); }
                       : [] { return std::make_shared<CQuantizer>(0); },
            [](const CQuantizer& c, U8* to) {
                must(zeropoint_quantizer_quantize(c.handle, x.data(), ZEROPOINT_FLOAT32, to, n));
            });
}

// ---- the core, whose parameters are cast at their first use ------------------------------------

core::Layout flat() {
    core::Layout layout;
    layout.inner = n;
    return layout;
}
core::Layout by_row() { return {core::Layout::Kind::channel, 1, rows, columns, 1}; }
core::Layout by_short_runs() { return {core::Layout::Kind::channel, columns, rows / 8, 8, 1}; }

template <class T>
core::Params scales(std::size_t count) {
    return {std::vector<T>(count, T(0.05)),
            std::vector<std::int32_t>(count, 3),
            0,
            255,
            core::DType::u8,
            core::Convention::numpy};
}

void list_core() {
    using core::DType;
    throwing<U8>("core quantize rows", n, [](U8* to) {
        core::quantize(0, {x.data(), DType::f32}, to, by_row(), scales<float>(rows));
    });
    throwing<U8>("core quantize float64 short runs", n, [](U8* to) {
        core::quantize(0, {x64.data(), DType::f64}, to, by_short_runs(), scales<double>(rows / 8));
    });
    throwing<double>("core dequantize float64 rows", n, [](double* to) {
        core::dequantize(0, q.data(), {to, DType::f64}, by_row(), scales<double>(rows));
    });
    throwing<double>("core fake_quantize float64", n, [](double* to) {
        core::fake_quantize(0, {x64.data(), DType::f64}, to, flat(), scales<double>(1));
    });
    throwing<U8>("core usable_for", 1,
                 [](U8* to) { *to = scales<double>(rows).usable_for(DType::f32); });
    throwing<double>("core min_max short runs", rows / 4, [](double* to) {
        core::min_max(0, {x64.data(), DType::f64}, to, to + rows / 8, by_short_runs());
    });
    throwing<std::int64_t>("core histogram rows", rows * core::histogram_row, [](auto* to) {
        const std::vector<std::int64_t> exponents(rows, -7);
        std::fill_n(to, rows * core::histogram_row, 0);
        core::histogram(0, {x.data(), DType::f32}, exponents, to, by_row());
    });
    throwing<U8>("core lists", 2, [](U8* to) {
        const std::size_t isas = core::compiled_isas().size();
        const std::size_t kernels = core::kernel_names().size();
        to[0] = static_cast<U8>(isas);
        to[1] = static_cast<U8>(kernels);
    });
}

// ---- one process a failure ---------------------------------------------------------------------

enum Outcome { right, right_and_no_more_asked, out_of_memory, refusal, wrong, written };

// In a child: runs the call with allocations [from, to] failing, and does not return.
[[noreturn]] void attempt(const Call& call, long from, long to, const unsigned char* expected) {
    alarm(60);  // one that hangs dies, and so is found
    const Run run = call.prepare();
    std::vector<unsigned char> out(call.bytes, 0xA5);
    core::set_num_threads(3);
    Outcome outcome = right;
    last = to;
    first = from;
    try {
        run(out.data());
    } catch (const std::bad_alloc&) {
        outcome = out_of_memory;
    } catch (const std::invalid_argument&) {
        outcome = refusal;
    }
    first = 0;
    if (outcome != right) {
        for (const unsigned char byte : out)
            if (byte != 0xA5) outcome = written;
    } else if (std::memcmp(out.data(), expected, out.size()) != 0) {
        outcome = wrong;
    }
    _exit(outcome == right && asked < from ? right_and_no_more_asked : outcome);
}

int status_of(const Call& call, long from, long to, const unsigned char* expected) {
    const pid_t child = fork();
    if (child == 0) attempt(call, from, to, expected);
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

}  // namespace

int main() {
    for (std::size_t i = 0; i < n; ++i) {
        x[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 2000) - 1000) * 0.0101f;
        x64[i] = x[i];
        x16[i].bits = static_cast<std::uint16_t>(i * 40503u % 0x7C00);
        q[i] = static_cast<std::uint8_t>(i);
        acc[i] = static_cast<std::int32_t>(i * 2654435761u);
    }
    list_typed();
    list_c();
    list_core();
    std::size_t most = 0;
    for (const Call& call : calls) most = call.bytes > most ? call.bytes : most;
    auto* expected = static_cast<unsigned char*>(
        mmap(nullptr, most, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    long passed = 0, failed = 0;
    for (const Call& call : calls) {
        const bool refuses = call.name.find("refusal") != std::string::npos;
        std::memset(expected, 0xA5, call.bytes);
        if (fork() == 0) {
            try {
                call.prepare()(expected);
            } catch (const std::invalid_argument&) {
            }
            _exit(0);
        }
        wait(nullptr);
        for (const bool lasting : {false, true})
            for (long k = 1;; ++k) {
                const int status = status_of(call, k, lasting ? LONG_MAX : k, expected);
                const int outcome = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
                const bool good = outcome == right || outcome == right_and_no_more_asked ||
                                  (outcome == out_of_memory && call.may_throw) ||
                                  (outcome == refusal && refuses);
                ++(good ? passed : failed);
                if (!good)
                    std::printf("FAILED: %s, allocation %ld%s: %s %d\n", call.name.c_str(), k,
                                lasting ? " and all after it" : "",
                                WIFSIGNALED(status) ? "died of signal" : "outcome",
                                WIFSIGNALED(status) ? WTERMSIG(status) : outcome);
                if (outcome == right_and_no_more_asked || k > 500 ||
                    (refuses && outcome == refusal && k > 40))
                    break;
            }
    }
    std::printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}
#endif
