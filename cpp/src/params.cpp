#include "params.h"

#include <cmath>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "fpstate.h"

namespace zeropoint::core {

namespace {

template <class Enum, std::size_t n>
void expect_known(Enum convention, const char* const (&names)[n]) {
    if (!is_known(convention, names))
        throw std::invalid_argument("convention " + std::to_string(static_cast<int>(convention)) +
                                    " is unknown; choose one of the enumeration");
}

OffsetForm form_of(OffsetConvention convention, int qmin, int qmax, bool fused) {
    const double n = qmax - qmin;
    OffsetForm form{};
    form.steps = form.divisor = 1;
    if (convention == OffsetConvention::cf) {  // clip(rint((x - o) / s)); q * s + o
        form.first = qmin;
        form.last = qmax;
        form.reach = qmax + 0.25;
        return form;
    }
    form.last = n;  // qmin + clip(floor((x - o) / s), 0, n); (q - qmin + 0.5) * s + o
    form.word = qmin;
    form.truncates = true;
    form.shift = qmin - 0.5;
    form.reach = n + 0.5;
    if (convention == OffsetConvention::faiss) {  // floor((x - o) / s * n); (...) / n * s + o
        form.steps = form.divisor = n;
        form.reach = 1;
        form.once = fused;
    }
    return form;
}

}  // namespace

template <class T>
Params::Params(const std::vector<T>& scale, std::vector<std::int32_t> zero_point, int qmin,
               int qmax, DType code, Convention convention, std::optional<int> nan_code)
    : data_(std::make_shared<Data>()) {
    expect_known(convention, convention_names);
    const FpGuard guard;  // the host may lose subnormal numbers in a conversion
    data_->scale.assign(scale.begin(), scale.end());
    data_->precision = sizeof(T) == sizeof(float) ? DType::f32 : DType::f64;
    data_->zero_point = std::move(zero_point);
    data_->qmin = qmin;
    data_->qmax = qmax;
    data_->code = code;
    data_->convention = convention;
    data_->nan_code = nan_code;
}

template <class T>
Params::Params(const std::vector<T>& scale, const std::vector<T>& offset, int qmin, int qmax,
               DType code, OffsetConvention convention, bool fused, std::optional<int> nan_code)
    : data_(std::make_shared<Data>()) {
    expect_known(convention, offset_convention_names);
    const FpGuard guard;
    const T steps = static_cast<T>(qmax - qmin);
    data_->scale.assign(scale.begin(), scale.end());
    if (convention == OffsetConvention::sentence_transformers)  // what it divides and multiplies by
        for (std::size_t i = 0; i < scale.size(); ++i) data_->scale[i] = scale[i] / steps;
    data_->precision = sizeof(T) == sizeof(float) ? DType::f32 : DType::f64;
    data_->offset.assign(offset.begin(), offset.end());
    data_->qmin = qmin;
    data_->qmax = qmax;
    data_->code = code;
    data_->by_offset = convention;
    data_->form = form_of(convention, qmin, qmax, fused);
    data_->nan_code = nan_code;
}

#define ZEROPOINT_PRECISION(T)                                                                 \
    template Params::Params(const std::vector<T>&, std::vector<std::int32_t>, int, int, DType, \
                            Convention, std::optional<int>);                                   \
    template Params::Params(const std::vector<T>&, const std::vector<T>&, int, int, DType,     \
                            OffsetConvention, bool, std::optional<int>);
ZEROPOINT_PRECISION(float)
ZEROPOINT_PRECISION(double)
#undef ZEROPOINT_PRECISION

std::size_t Params::size() const noexcept { return data_->size(); }
DType Params::code() const noexcept { return data_->code; }
DType Params::precision() const noexcept { return data_->precision; }
bool Params::has_offset() const noexcept { return data_->has_offset(); }

// What stands in place of a scale in the loops of quantize.
template <class T>
T Params::Data::divisor(T s) const noexcept {
    // with Inf every quotient is 0, or NaN, whose code is the first as well
    if (by_offset && s == 0)
        return by_offset == OffsetConvention::faiss ? std::numeric_limits<T>::infinity() : 1;
    // a scale that was lost in the cast must not come back as the reciprocal of 0 or Inf
    return !by_offset && by_reciprocal(convention) && s > 0 ? 1 / s : s;
}

template <class T>
const Stream<T>& Params::Data::cast(const Lazy<Stream<T>>& lazy, bool divides) const {
    return lazy.get([&] {
        const FpGuard guard;
        const std::size_t n = size();
        auto stream = std::make_unique<Stream<T>>();
        stream->scale.resize(n);
        stream->zero.resize(n);
        for (std::size_t i = 0; i < n; ++i) {
            const T s = static_cast<T>(scale[i]);
            stream->scale[i] = divides ? divisor(s) : s;
            stream->zero[i] =
                has_offset() ? static_cast<T>(offset[i]) : static_cast<T>(zero_point[i]);
        }
        return stream;
    });
}

template <>
const Stream<float>& Params::Data::quantizer<float>() const {
    return cast(quantizer32_, true);
}
template <>
const Stream<double>& Params::Data::quantizer<double>() const {
    return cast(quantizer64_, true);
}
template <>
const Stream<float>& Params::Data::dequantizer<float>() const {
    return cast(dequantizer32_, false);
}
template <>
const Stream<double>& Params::Data::dequantizer<double>() const {
    return cast(dequantizer64_, false);
}

const Multiplier* Params::Data::multipliers(Kernel certify) const noexcept try {
    const auto& made = multipliers_.get([&] {
        const Stream<float>& stream = quantizer<float>();
        auto found = std::make_unique<std::vector<Multiplier>>(size());
        const FpGuard guard;
        Job job;
        job.out = found->data();
        job.rows = size();
        job.cols = 1;
        job.scale = stream.scale.data();
        job.zero = stream.zero.data();
        job.low = qmin;
        job.high = qmax;
        certify(job);
        return found;
    });
    return made.data();
} catch (const std::exception&) {
    return nullptr;
}

void Params::prepare() const {
    if (data_->has_offset() && data_->precision == DType::f64) {
        data_->quantizer<double>();
        data_->dequantizer<double>();
        return;
    }
    data_->quantizer<float>();
    if (data_->precision == DType::f32) data_->dequantizer<float>();
}

namespace {

template <class T>
bool is_positive(T v) {
    return v > 0 && std::isfinite(v);
}

template <class From, class To>
bool store(const From* from, To* to, std::size_t n, bool reciprocal) {
    bool good = true;
    for (std::size_t i = 0; i < n; ++i) {
        to[i] = static_cast<To>(from[i]);
        good &= is_positive(to[i]) && (!reciprocal || std::isfinite(1 / to[i]));
    }
    return good;
}

template <class From>
bool store(const From* from, View to, std::size_t n, bool reciprocal) {
    return to.dtype == DType::f64 ? store(from, static_cast<double*>(to.data), n, reciprocal)
                                  : store(from, static_cast<float*>(to.data), n, reciprocal);
}

}  // namespace

bool store_scales(ConstView scale, View stored, std::size_t n, Convention convention) noexcept {
    const FpGuard guard;
    const bool reciprocal = by_reciprocal(convention);
    return scale.dtype == DType::f64
               ? store(static_cast<const double*>(scale.data), stored, n, reciprocal)
               : store(static_cast<const float*>(scale.data), stored, n, reciprocal);
}

void quotients(const double* a, const double* b, float* quotient, std::size_t n) noexcept {
    const FpGuard guard;
    for (std::size_t i = 0; i < n; ++i) quotient[i] = static_cast<float>(a[i] / b[i]);
}

Requantization::Requantization(const Params& params, const std::vector<float>& multiplier)
    : data_(std::make_shared<Data>()) {
    const Params::Data& p = params.data();
    data_->stream.scale = multiplier;
    if (multiplier.size() == 1) data_->stream.scale.resize(p.size(), multiplier[0]);
    data_->stream.zero.assign(p.zero_point.begin(), p.zero_point.end());
    data_->qmin = p.qmin;
    data_->qmax = p.qmax;
    data_->code = p.code;
}

std::optional<Requantization> Requantization::of(const Params& params, ConstView acc_scale,
                                                 std::size_t n) {
    const Params::Data& p = params.data();
    for (const std::int32_t z : p.zero_point)
        if (z < p.qmin || z > p.qmax) return std::nullopt;
    std::vector<float> multiplier(p.size());
    const FpGuard guard;
    for (std::size_t i = 0; i < multiplier.size(); ++i) {
        const std::size_t at = n == 1 ? 0 : i;
        const double step = acc_scale.dtype == DType::f64
                                ? static_cast<const double*>(acc_scale.data)[at]
                                : static_cast<const float*>(acc_scale.data)[at];
        multiplier[i] = static_cast<float>(step / p.scale[i]);
        if (!is_positive(step) || !is_positive(multiplier[i])) return std::nullopt;
    }
    return Requantization(params, multiplier);
}

bool Params::usable_for(DType x) const {
    if (x == DType::f64 || data_->precision == DType::f32 || has_offset()) return true;
    const FpGuard guard;  // a host that reads subnormal numbers as 0 would find them unusable
    for (const float s : data_->quantizer<float>().scale)
        if (!(s > 0) || !std::isfinite(s)) return false;
    return true;
}

}  // namespace zeropoint::core
